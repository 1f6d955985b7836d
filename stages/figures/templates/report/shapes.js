// Photographs with outlines on them. Data files are scripts that hand over their content by seqresChunk.

const SVG = "http://www.w3.org/2000/svg";
const LARGEST_NUMBERED = 8; // pixels on screen between numbers, below which only some points are numbered

// One colour and one dash a meaning, as in the other figures; apart without colour, too.
export const LAYERS = {
  predicted: { words: "predicted", colour: "#ffb000", dash: "", points: true },
  pseudo: { words: "pseudo mask", colour: "#ffb000", dash: "7 4", points: true },
  refined: { words: "refined", colour: "#ff8ad8", dash: "", points: true },
  resampled: { words: "resampled", colour: "#f5ef5f", dash: "2 3", points: true },
  true: { words: "true", colour: "#1ec878", dash: "12 3", points: false },
  box: { words: "box", colour: "#7ab8ff", dash: "", points: false },
};

const chunks = new Map();
const waiting = new Map();

globalThis.seqresChunk = (name, number, content) => {
  const key = `${name}-${number}`;
  chunks.set(key, content);
  waiting.get(key)?.(content);
};

export function loadChunk(name, number) {
  const key = `${name}-${number}`;
  if (chunks.has(key)) return Promise.resolve(chunks.get(key));
  return new Promise((resolve) => {
    const others = waiting.get(key);
    waiting.set(key, (content) => {
      others?.(content);
      resolve(content);
    });
    if (others) return;
    const script = document.createElement("script");
    script.src = `${key}.js`;
    document.head.append(script);
  });
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svgElement(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function photo(card, alt) {
  const attributes = { src: `picture-${card.im}.jpg`, alt, width: card.w, height: card.h, loading: "lazy", decoding: "async" };
  return element("span", { class: "photo" }, element("img", attributes));
}

const pathOf = (ring) => `M${ring.map((v, i) => (i && i % 2 === 0 ? `L${v}` : v)).join(" ")}Z`;

// Draw a card's shapes on its photo; `shown`: the names of layers, `numbers`: whether points are numbered.
export function drawShapes(holder, card, shapes, shown, numbers) {
  holder.querySelector("svg")?.remove();
  const svg = svgElement("svg", { viewBox: `0 0 ${card.w} ${card.h}`, "aria-hidden": "true" });
  const unit = card.w / Math.max(holder.clientWidth, 160); // picture pixels on a pixel of the screen
  for (const [name, layer] of Object.entries(LAYERS)) {
    if (!shown.has(name)) continue;
    if (name === "box") {
      const [x1, y1, x2, y2] = shapes.box;
      svg.append(svgElement("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke: "#111", "stroke-width": 3 }));
      svg.append(svgElement("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke: layer.colour, "stroke-width": 1.5 }));
      continue;
    }
    const rings = shapes.layers[name];
    if (!rings) continue;
    const d = rings.map(pathOf).join("");
    svg.append(svgElement("path", { d, stroke: "#111", "stroke-width": 4 }));
    svg.append(svgElement("path", { d, stroke: layer.colour, "stroke-width": 2, "stroke-dasharray": layer.dash, "data-layer": name }));
    if (numbers && layer.points && rings.length === 1) numberPoints(svg, rings[0], layer.colour, unit);
  }
  holder.append(svg);
}

function numberPoints(svg, ring, colour, unit) {
  let length = 0;
  for (let i = 2; i < ring.length; i += 2) length += Math.hypot(ring[i] - ring[i - 2], ring[i + 1] - ring[i - 1]);
  const apart = length / Math.max(ring.length / 2 - 1, 1) / unit;
  const every = Math.max(1, Math.ceil((2 * LARGEST_NUMBERED) / Math.max(apart, 0.1)));
  for (let i = 0; i < ring.length / 2; i += 1) {
    const [x, y] = [ring[2 * i], ring[2 * i + 1]];
    svg.append(svgElement("circle", { cx: x, cy: y, r: Math.min(3, Math.max(1.2, apart / 3)) * unit, fill: colour }));
    if (i % every) continue;
    const text = svgElement("text", { x: x + 4 * unit, y: y - 3 * unit, "font-size": 10 * unit });
    text.textContent = i + 1;
    svg.append(text);
  }
}
