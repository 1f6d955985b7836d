// What a person decided, kept in this browser under the digests of the data set and of the pseudo masks.
// A decision: {verdict: "accept" | "reject" | "unsure", sentence: row of the sentence whose mask was looked at}.

export const VERDICTS = ["accept", "reject", "unsure"];
export const DECISIONS_FORMAT = "seqres-decisions";

export function openStore(setup) {
  const key = `seqres-review:${setup.dataset}:${setup.pseudo}`;
  const decisions = new Map();
  const past = []; // [ref, decision before]; what undo takes back
  let saved = true;
  try {
    for (const [ref, decision] of JSON.parse(localStorage.getItem(key) || "[]")) {
      if (Number.isInteger(ref) && VERDICTS.includes(decision.verdict)) decisions.set(ref, decision);
    }
  } catch {
    saved = false;
  }

  function set(ref, decision) {
    if (decision) decisions.set(ref, decision);
    else decisions.delete(ref);
    try {
      localStorage.setItem(key, JSON.stringify([...decisions]));
      saved = true;
    } catch {
      saved = false;
    }
  }

  return {
    get: (ref) => decisions.get(ref),
    isSaved: () => saved,
    canUndo: () => past.length > 0,
    decide(card, verdict) {
      const before = decisions.get(card.ref);
      past.push([card.ref, before]);
      set(card.ref, before?.verdict === verdict ? undefined : { verdict, sentence: card.s });
    },
    undo() {
      const last = past.pop();
      if (last) set(...last);
      return last?.[0];
    },
    count(cards) {
      const counts = { accept: 0, reject: 0, unsure: 0 };
      for (const card of cards) {
        const decision = decisions.get(card.ref);
        if (decision) counts[decision.verdict] += 1;
      }
      return counts;
    },
    file(cards) {
      const decided = cards.filter((card) => decisions.has(card.ref));
      return {
        format: DECISIONS_FORMAT,
        version: 1,
        dataset_digest: setup.dataset,
        pseudo_digest: setup.pseudo,
        decisions: decided.map((card) => {
          const { verdict, sentence } = decisions.get(card.ref);
          return { ref_id: card.ref, referent_index: card.r, sentence_index: sentence, verdict };
        }),
      };
    },
    // Decisions of a file of this data set; a text that says what is wrong, or "".
    load(text, cards) {
      let content;
      try {
        content = JSON.parse(text);
      } catch {
        return "This file is no JSON.";
      }
      if (content?.format !== DECISIONS_FORMAT || !Array.isArray(content.decisions)) return "This is no file of decisions.";
      if (content.dataset_digest !== setup.dataset) return "These decisions were made about another data set.";
      if (content.pseudo_digest !== setup.pseudo) return "These decisions were made about other pseudo masks.";
      const known = new Map(cards.map((card) => [card.ref, card]));
      for (const entry of content.decisions) {
        const card = known.get(entry?.ref_id);
        if (card && VERDICTS.includes(entry.verdict)) {
          past.push([card.ref, decisions.get(card.ref)]);
          set(card.ref, { verdict: entry.verdict, sentence: card.s });
        }
      }
      return "";
    },
  };
}
