// Which cards are shown, in which order. Plain functions of the cards and the form's values.

export const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

export function matching(cards, wanted, decisionOf) {
  const words = plainText(wanted.words || "").split(/\s+/).filter(Boolean);
  const limits = ["sc", "iou"].map((key) => [key, limit(wanted[`${key}-low`], -Infinity), limit(wanted[`${key}-high`], Infinity)]);
  const kept = cards.filter((card) => {
    if (wanted.split && card.split !== wanted.split) return false;
    if (wanted.status && wanted.status !== card.st && wanted.status !== `why:${card.why}`) return false;
    if (wanted.decision) {
      if (card.sc === null) return false; // no pseudo mask, nothing to decide
      if ((decisionOf(card.ref)?.verdict || "none") !== wanted.decision) return false;
    }
    for (const [key, low, high] of limits) {
      if ((low > -Infinity || high < Infinity) && !(card[key] !== null && card[key] >= low && card[key] <= high)) return false;
    }
    return words.every((word) => card.plain.includes(word));
  });
  return sorted(kept, wanted.sort || "i");
}

const limit = (text, otherwise) => (text === undefined || text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));

// "-sc": by sc, largest first; cards without the number last.
function sorted(cards, order) {
  const [key, sign] = order.startsWith("-") ? [order.slice(1), -1] : [order, 1];
  return cards.sort((a, b) => (a[key] === null) - (b[key] === null) || sign * (a[key] - b[key]) || a.i - b.i);
}

const STATUS_WORDS = { kept: "kept", dropped: "dropped", pseudo: "pseudo masks", scored: "scored sentences", referent: "referents" };

// [value, words] of the choices of "Show" and "Split".
export function statusChoices(cards) {
  const found = new Map([["", `everything (${cards.length})`]]);
  const counts = new Map();
  for (const card of cards) {
    counts.set(card.st, (counts.get(card.st) || 0) + 1);
    if (card.why) counts.set(`why:${card.why}`, (counts.get(`why:${card.why}`) || 0) + 1);
  }
  for (const [value, count] of counts) {
    const words = value.startsWith("why:") ? `dropped: ${value.slice(4)}` : STATUS_WORDS[value] || value;
    found.set(value, `${words} (${count})`);
  }
  return [...found];
}

export function splitChoices(cards) {
  return [["", "all"], ...[...new Set(cards.map((card) => card.split))].map((split) => [split, split])];
}
