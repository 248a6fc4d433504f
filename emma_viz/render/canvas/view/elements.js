// Elements of a page, made from values.
"use strict";
const { LETTERS } = require("../core/layers.js");
const { runsOf } = require("../core/patches.js");

/** An element: `text`, `on…` listeners, and attributes; what is null or false is left out. */
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};
/** Puts nodes in the place of a holder's; those that would be the same stay, and need no new layout. */
const renew = (holder, nodes) => {
  const old = [...holder.childNodes];
  if (old.length !== nodes.length) return holder.replaceChildren(...nodes);
  nodes.forEach((node, i) => old[i].isEqualNode(node) || old[i].replaceWith(node));
};
const svg = (tag, attributes = {}, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
let described = 0;
/** Words with an explanation: shown to the pointer, and the description of a control for those who cannot see it. */
const tipped = (text, tip, control = null) => {
  if (control) {
    const id = `ev-tip-${++described}`;
    control.setAttribute("aria-describedby", id);
    return make("span", { class: "ev-tip", "data-tip": tip }, text, make("span", { id, hidden: true, text: tip }));
  }
  return make("span", { class: "ev-tip", "data-tip": tip, text });
};
const canvasOf = (pixels, width, height) => {
  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
};
/** Draws a picture of a grid where its cells lie; a canvas shows the rectangle `shown` of the image, all of it unless told. */
const layOut = (context, picture, { grid: [rows, columns], spans }, shown = [0, 0, 1, 1]) => {
  const [left, top, right, bottom] = shown;
  const { width, height } = context.canvas;
  const [wide, high] = [picture.width / columns, picture.height / rows];
  const [across, down] = spans.map(runsOf);
  // Where runs meet they meet on whole pixels: none shows through between them.
  const whole = across.length * down.length > 1 ? Math.round : Number;
  for (const { first: row, count: tall, ...y } of down)
    for (const { first: column, count: broad, ...x } of across) {
      const [from, to] = [x.begin, x.end].map((at) => whole(((at - left) / (right - left)) * width));
      const [upper, lower] = [y.begin, y.end].map((at) => whole(((at - top) / (bottom - top)) * height));
      const source = [column * wide, row * high, broad * wide, tall * high];
      context.drawImage(picture, ...source, from, upper, to - from, lower - upper);
    }
};
const pictureOf = (address) =>
  new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("A picture of this result could not be drawn."));
    image.src = address;
  });

/** The letter of a model, in its colour. */
const dot = (model) => make("i", { class: "ev-letter", style: `--c:var(--ev-m${model})`, text: LETTERS[model] });

module.exports = { make, renew, svg, tipped, canvasOf, layOut, pictureOf, dot };
