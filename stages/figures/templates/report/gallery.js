// The cards of one page of the gallery. Only these are in the document, whatever the number of cards.
import { LAYERS, drawShapes, element, loadChunk, photo, svgElement } from "./shapes.js";
import { matching, plainText, splitChoices, statusChoices } from "./filters.js";

const PER_PAGE = 24;
const byId = (id) => document.getElementById(id);

export function openGallery(setup, cards, decisionOf, onCard) {
  for (const card of cards) card.plain = plainText(card.t);
  const form = byId("filters");
  const shown = new Set();
  let numbers = false;
  let found = cards;
  let page = 0;
  fill(form.elements.status, statusChoices(cards));
  fill(form.elements.split, splitChoices(cards));
  layerSwitches();

  function fill(select, choices) {
    select.replaceChildren(...choices.map(([value, words]) => element("option", { value }, words)));
  }

  function layerSwitches() {
    const holder = byId("layers");
    for (const [name, layer] of Object.entries(LAYERS)) {
      shown.add(name);
      const sample = svgElement("svg", { viewBox: "0 0 36 14", "aria-hidden": "true" });
      sample.append(svgElement("path", { d: "M0 7H36", stroke: layer.colour, "stroke-width": 3, "stroke-dasharray": layer.dash }));
      const box = element("input", { type: "checkbox", checked: "" });
      box.addEventListener("change", () => {
        if (box.checked) shown.add(name);
        else shown.delete(name);
        redraw();
      });
      holder.append(element("label", {}, box, sample, layer.words));
    }
    const box = element("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      numbers = box.checked;
      redraw();
    });
    holder.append(element("label", {}, box, "numbered points"));
  }

  const numberText = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));

  function describe(card) {
    const facts = [`ref_id ${card.ref}`, card.split];
    if (card.sc !== null) facts.push(`score ${numberText(card.sc)}`, `confidence ${numberText(card.cf, 2)}`);
    if (card.iou !== null) facts.push(`IoU ${numberText(card.iou, 2)}`);
    if (card.st === "kept") facts.push("kept");
    if (card.st === "dropped") facts.push(`dropped: ${card.why}`);
    return facts.join(" · ");
  }

  function make(card) {
    const alt = `Photo for “${card.t}” with its box and outlines`;
    const zoom = element("button", { type: "button", class: "zoom", "aria-label": `Enlarge: ${alt}` }, photo(card, alt));
    zoom.addEventListener("click", () => enlarge(card));
    const made = element(
      "article",
      { class: "card", tabindex: "0", "aria-label": card.t, "data-card": card.i, "data-ref": card.ref },
      zoom,
      element("h3", {}, card.t),
      element("p", {}, describe(card)),
    );
    draw(made.querySelector(".photo"), card, numbers);
    onCard(made, card);
    return made;
  }

  async function draw(holder, card, withNumbers) {
    const shapes = (await loadChunk("shapes", Math.floor(card.i / setup.chunk)))[card.i % setup.chunk];
    drawShapes(holder, card, shapes, shown, withNumbers);
  }

  function redraw() {
    for (const made of byId("cards").children) draw(made.querySelector(".photo"), cards[made.dataset.card], numbers);
  }

  function enlarge(card) {
    byId("large-text").textContent = `${card.t} (${describe(card)})`;
    const holder = photo(card, `Photo for “${card.t}” with its box and outlines, points numbered`);
    byId("large-photo").style.setProperty("--wide", card.w / card.h);
    byId("large-photo").replaceChildren(holder);
    byId("large").showModal();
    draw(holder, card, true);
  }

  const pages = () => Math.max(1, Math.ceil(found.length / PER_PAGE));

  function showPage(wanted) {
    page = Math.min(Math.max(wanted, 0), pages() - 1);
    const part = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    byId("cards").replaceChildren(...part.map(make));
    byId("page").value = page + 1;
    byId("page").max = pages();
    byId("pages").textContent = `of ${pages()}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages() - 1;
  }

  function refresh(keepPage = false) {
    found = matching(cards, Object.fromEntries(new FormData(form)), decisionOf);
    byId("found").textContent = found.length ? `${found.length} of ${cards.length} cards` : "No card is left; clear the filters.";
    showPage(keepPage ? page : 0);
  }

  // The next (or previous) card in the order shown gets the focus, on another page where it lies there.
  function move(made, step) {
    const at = [...byId("cards").children].indexOf(made);
    const last = byId("cards").children.length - 1;
    if (at + step > last && page < pages() - 1) {
      showPage(page + 1);
      byId("cards").firstElementChild?.focus();
    } else if (at + step < 0 && page > 0) {
      showPage(page - 1);
      byId("cards").lastElementChild?.focus();
    } else {
      byId("cards").children[Math.min(Math.max(at + step, 0), last)]?.focus();
    }
  }

  form.addEventListener("input", () => refresh());
  form.addEventListener("reset", () => setTimeout(refresh));
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => showPage(page - 1));
  byId("next").addEventListener("click", () => showPage(page + 1));
  byId("page").addEventListener("change", () => showPage(Number(byId("page").value) - 1));
  byId("cards").addEventListener("keydown", (event) => {
    const made = event.target.closest?.(".card");
    if (!made || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
    if (step) move(made, step);
    else if (event.key === "Enter" && event.target === made) enlarge(cards[made.dataset.card]);
    else return;
    event.preventDefault();
  });
  return { refresh, move, element: (ref) => byId("cards").querySelector(`[data-ref="${ref}"] .verdicts`)?.closest(".card") };
}
