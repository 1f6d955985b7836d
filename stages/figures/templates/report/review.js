// Accept, reject, unsure: buttons and keys of a card, undo, progress, the file.
import { VERDICTS } from "./store.js";
import { element } from "./shapes.js";

const VERDICT_WORDS = { accept: "Accept", reject: "Reject", unsure: "Unsure" };

export function openReview(cards, store) {
  const judged = cards.filter((card) => card.sc !== null);
  const part = (id) => document.getElementById(id);
  let gallery = null;

  function addButtons(made, card) {
    if (card.sc === null) return;
    const row = element("div", { class: "verdicts", role: "group", "aria-label": `Decision about ${card.t}` });
    for (const verdict of VERDICTS) {
      const button = element("button", { type: "button", "data-verdict": verdict }, VERDICT_WORDS[verdict]);
      button.addEventListener("click", () => decide(made, card, verdict, false));
      row.append(button);
    }
    made.append(row);
    mark(made, card.ref);
  }

  function mark(made, ref) {
    const verdict = store.get(ref)?.verdict || "";
    made.dataset.verdict = verdict;
    for (const button of made.querySelectorAll(".verdicts button")) {
      button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
    }
  }

  function decide(made, card, verdict, moveOn) {
    store.decide(card, verdict);
    mark(made, card.ref);
    progress();
    if (moveOn && store.get(card.ref)) gallery.move(made, 1);
  }

  function undo() {
    const ref = store.undo();
    if (ref === undefined) return;
    const made = gallery.element(ref);
    if (made) {
      mark(made, ref);
      made.focus();
    }
    progress();
  }

  function progress() {
    const counts = store.count(judged);
    const done = counts.accept + counts.reject + counts.unsure;
    part("review-bar").max = judged.length || 1;
    part("review-bar").value = done;
    part("review-count").textContent =
      `${done} of ${judged.length} decided: ${counts.accept} accepted, ${counts.reject} rejected, ${counts.unsure} unsure`;
    part("undo").disabled = !store.canUndo();
    part("download").disabled = done === 0;
    if (!store.isSaved()) part("review-note").textContent = "This browser keeps nothing for this page: download the decisions before you leave.";
  }

  function download() {
    const text = `${JSON.stringify(store.file(judged), null, 1)}\n`;
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    element("a", { href: address, download: "decisions.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  async function upload(event) {
    const file = event.target.files[0];
    if (!file) return;
    part("review-note").textContent = store.load(await file.text(), judged) || `Decisions of ${file.name} were taken over.`;
    event.target.value = "";
    gallery.refresh(true);
    progress();
  }

  function keys(event) {
    const made = event.target.closest?.(".card");
    if (!made || event.ctrlKey || event.metaKey || event.altKey) return;
    const card = cards[made.dataset.card];
    const verdict = { a: "accept", r: "reject", u: "unsure" }[event.key.toLowerCase()];
    if (event.key.toLowerCase() === "z") undo();
    else if (verdict && card.sc !== null) decide(made, card, verdict, true);
    else return;
    event.preventDefault();
  }

  return {
    addButtons,
    start(opened) {
      gallery = opened;
      part("cards").addEventListener("keydown", keys);
      part("undo").addEventListener("click", undo);
      part("download").addEventListener("click", download);
      part("upload").addEventListener("change", upload);
      progress();
    },
  };
}
