// The strips of the inspector: one place's decoded pixels at every layer.
"use strict";
const { extentOf } = require("../core/patches.js");
const { fitCells, placeCells } = require("../core/sizes.js");
const { chosenNow, indexOf, regionFor } = require("../core/state.js");
const { dot, make } = require("./elements.js");
const { dash } = require("./panels.js");

/** How the cells of a strip are laid out: as large as there is room for a whole image, or of one patch's size. */
const shapeOf = ({ state, parts }, model, width) => {
  const cells = model.layers.length + 1;
  if (state.locked || state.hovered) return placeCells(cells, width);
  const { result } = state;
  const [left, top, right, bottom] = extentOf(model);
  const tallness = ((bottom - top) * result.image.size[1]) / ((right - left) * result.image.size[0]);
  const around = 160; // pixels of the title, the hint and the curve
  const narrow = parts.frame.classList.contains("ev-narrow");
  const room = narrow ? 150 : Math.max((parts.inspector.clientHeight - around) / result.models.length - 8, 50);
  return fitCells(cells, width, room, tallness);
};

/** A model's strip, {canvas, mark, read, boxes}, put into the place of all of them. */
const stripOf = (stage, places, model, index) => {
  const canvas = make("canvas", {
    class: "ev-strip",
    "aria-label": `${model.name}: decoded pixels of this place at every layer`,
    role: "img",
  });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const { perLine, side, high } = shapeOf(stage, model, box.width);
    const line = Math.floor((event.clientY - box.top) / high);
    const cell = line * perLine + Math.floor((event.clientX - box.left) / side) - 1;
    const step = stage.state.steps.findIndex((each) => each[index] === cell);
    if (step >= 0) stage.act.go({ type: "set", step });
  });
  const read = make("div", { class: "ev-reads" });
  const mark = make("i", { class: "ev-strip-mark" });
  places.append(
    make("div", { class: "ev-strip-row" }, dot(index), make("div", { class: "ev-strip-box" }, canvas, mark)),
    read
  );
  return { canvas, mark, read, boxes: [] };
};

const drawStrip = (stage, chosen, model, index) => {
  const { state, parts } = stage;
  const strip = parts.strips[index];
  const region = regionFor(state, chosen, index);
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(strip.canvas.clientWidth, 60);
  const { lines, perLine, side, high } = shapeOf(stage, model, width);
  strip.canvas.width = Math.round(width * ratio);
  strip.canvas.height = Math.round(lines * high * ratio);
  strip.canvas.style.height = `${lines * high}px`;
  strip.boxes = [];
  if (!region) return;
  const context = strip.canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const [across, down] = [region.right - region.left + 1, region.bottom - region.top + 1];
  const source = [region.left, region.top, across, down].map((patches) => patches * model.patch);
  const wide = chosen.whole || across >= down ? side - 3 : ((side - 3) * across) / down;
  const tall = chosen.whole ? high - 3 : across >= down ? ((side - 3) * down) / across : side - 3;
  [state.pictures.truths[index], ...state.pictures.decoded[index]].forEach((picture, cell) => {
    const box = [(cell % perLine) * side + 1.5, Math.floor(cell / perLine) * high + 1.5, wide, tall];
    const place = box.map((length) => length * ratio);
    if (picture) context.drawImage(picture, ...source, ...place);
    if (cell && model.controls[cell - 1].beats === false) dash(context, place, ratio);
    if (cell) strip.boxes.push(box);
  });
};

/** Draws the chosen place at every layer, the true pixels first. */
const drawStrips = (stage) => {
  const chosen = chosenNow(stage.state);
  stage.state.result.models.forEach((model, index) => drawStrip(stage, chosen, model, index));
  markStrips(stage);
};

/** The frame round the current layer's cell. */
const markStrips = ({ state, parts }) =>
  parts.strips.forEach(({ mark, boxes }, index) => {
    const box = boxes[indexOf(state, index)];
    mark.hidden = !box;
    if (!box) return;
    mark.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
    mark.style.width = `${box[2]}px`;
    mark.style.height = `${box[3]}px`;
  });

module.exports = { stripOf, drawStrips, markStrips };
