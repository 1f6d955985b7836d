import { openAttention } from "./attention.js";
import { openGallery } from "./gallery.js";
import { openReview } from "./review.js";
import { openStore } from "./store.js";

const setup = JSON.parse(document.getElementById("setup").textContent);
const allCards = globalThis.seqresCards || [];
if (setup.cards) {
  const store = openStore(setup);
  const review = document.getElementById("review") ? openReview(allCards, store) : null;
  const gallery = openGallery(setup, allCards, store.get, (made, card) => review?.addButtons(made, card));
  review?.start(gallery);
  gallery.refresh();
}
if (setup.attention.length) openAttention(setup.attention);
