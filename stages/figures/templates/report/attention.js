// Where the decoder looks: a sample is chosen from a list, a point and a layer by sliders.
import { element, loadChunk, photo, svgElement } from "./shapes.js";

export function openAttention(listed) {
  const part = (id) => document.getElementById(`attention-${id}`);
  const sample = part("sample");
  sample.append(...listed.map((one, i) => element("option", { value: i }, `${one.t} (${one.model})`)));
  let current = null;

  async function choose() {
    const one = listed[sample.value];
    const content = await loadChunk("attention", one.i);
    const bytes = Uint8Array.from(atob(content.maps), (letter) => letter.charCodeAt(0));
    const holder = photo(one, `Photo for “${one.t}” with the attention of ${one.model}`);
    holder.append(element("canvas", { "aria-hidden": "true" }));
    part("view").replaceChildren(holder);
    const layers = content.shape[1];
    const last = !current || part("layer").value === part("layer").max;
    part("layer").max = Math.max(1, layers);
    part("layer").value = last ? layers : Math.min(part("layer").value, layers);
    part("layer").disabled = layers < 2;
    part("point").max = Math.max(1, content.points.length / 2);
    part("point").value = Math.min(part("point").value, part("point").max);
    current = { one, content, bytes, holder };
    draw();
  }

  function draw() {
    const { one, content, bytes, holder } = current;
    const [count, layers, rows, columns] = content.shape;
    const point = Number(part("point").value) - 1;
    const layer = Number(part("layer").value) - 1;
    const map = Math.min(point, count - 1) * layers + layer; // a detector looks once for the whole contour
    part("depth").textContent = `${layer + 1} of ${layers}`;
    part("layer").setAttribute("aria-valuetext", `layer ${layer + 1} of ${layers}`);
    part("number").textContent = `${point + 1} of ${content.points.length / 2}`;
    part("point").setAttribute("aria-valuetext", `point ${point + 1} of ${content.points.length / 2}`);
    const canvas = holder.querySelector("canvas");
    canvas.width = columns;
    canvas.height = rows;
    if (count && rows && columns) {
      const context = canvas.getContext("2d");
      const picture = context.createImageData(columns, rows);
      for (let i = 0; i < rows * columns; i += 1) picture.data.set(heat(bytes[map * rows * columns + i] / 255), 4 * i);
      context.putImageData(picture, 0, 0);
    }
    holder.querySelector("svg")?.remove();
    const svg = svgElement("svg", { viewBox: `0 0 ${one.w} ${one.h}`, "aria-hidden": "true" });
    const unit = one.w / Math.max(holder.clientWidth, 160);
    for (let i = 0; i < content.points.length / 2; i += 1) {
      const [cx, cy] = [content.points[2 * i], content.points[2 * i + 1]];
      svg.append(svgElement("circle", { cx, cy, r: (i === point ? 6 : 2.5) * unit, fill: i === point ? "#e61e28" : "#ffb000" }));
    }
    holder.append(svg);
  }

  sample.addEventListener("change", choose);
  part("layer").addEventListener("input", () => current && draw());
  part("point").addEventListener("input", () => current && draw());
  choose();
}

// 0 = clear and dark, 1 = bright yellow: the ramp of the other figures, simplified.
function heat(level) {
  const red = Math.min(255, 40 + 330 * level);
  const green = Math.max(0, 330 * level - 110);
  const blue = Math.max(20, 110 - 160 * Math.abs(level - 0.3));
  return [red, Math.min(245, green), blue, 110 + 110 * Math.sqrt(level)];
}
