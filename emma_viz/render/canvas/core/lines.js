// The lines of the charts over the steps: {name, short, colour, values, dash}, and where they are drawn.
"use strict";
const { LETTERS, alongSteps } = require("./layers.js");
const { mean } = require("./numbers.js");
const { patchesIn } = require("./patches.js");
const { trajectory } = require("./payload.js");
const { regionFor } = require("./state.js");

const finiteOf = (lines) => lines.flatMap((line) => line.values).filter(Number.isFinite);

/** How much can be decoded at each layer, and what the lens can on held-out images: {lines, low, high}. */
const retentionLines = ({ result: { models }, steps }) => {
  const lines = models.flatMap((model, index) => {
    const own = { name: model.name, short: LETTERS[index], colour: index };
    const held = model.lens_quality.map((quality) => (quality ? quality.r2 : null));
    const found = [{ ...own, values: alongSteps(model.scores.r2, models, steps, index) }];
    if (!held.some((each) => each !== null)) return found;
    const values = alongSteps(held, models, steps, index);
    const other = {
      name: `${model.name}, lens on held-out images`,
      short: `${LETTERS[index]} held out`,
      dash: "dotted",
    };
    return [...found, { ...own, ...other, values }];
  });
  return { lines, low: Math.max(Math.min(0, ...finiteOf(lines)), -1), high: 1 };
};

/** How alike each layer's map and the true one are: {lines, low, high, known}. */
const fidelityLines = ({ result: { models }, steps, view }) => {
  const lines = models.map((model, index) => {
    const values = alongSteps(model.maps[view.kind].correlation, models, steps, index);
    return { name: model.name, short: LETTERS[index], colour: index, values };
  });
  const finite = finiteOf(lines);
  return { lines, low: Math.min(0, ...finite), high: 1, known: finite.length > 0 };
};

/** A place's mean at each layer, and its true value. */
const pathLines = (state, chosen) => {
  const { result: { models }, steps, view } = state; // prettier-ignore
  return models.flatMap((model, index) => {
    const region = regionFor(state, chosen, index);
    if (!region) return [];
    const patches = patchesIn(model, region);
    const values = alongSteps(trajectory(model, view.kind, patches), models, steps, index);
    const line = { name: model.name, short: LETTERS[index], colour: index, values };
    if (index > 0) return [line];
    const level = mean(patches.map((patch) => model.maps[view.kind].true[patch]));
    return [line, { name: "true pixels", short: "true", colour: 6, dash: "dashed", values: steps.map(() => level) }];
  });
};

/** The vertical range of a chart and the levels that it names. */
const rangeOf = ({ lines, low: least, high: most }) => {
  const all = finiteOf(lines);
  const low = least ?? Math.min(0, ...all);
  const high = Math.max(most ?? -Infinity, ...all, low + 1e-9);
  return { low, high, ticks: low < 0 ? [high, 0, low] : [high, low, (low + high) / 2] };
};

/** The axes of a chart of a size in pixels: `x(step)`, `y(level)`, `stepAt(share of the width)`, and its edges. */
const axesOf = ({ count, low, high }, width, height) => {
  const [left, right, top, bottom] = [34, 8, 9, 17];
  const last = Math.max(count - 1, 1);
  // What lies below the axis is drawn on its edge; the numbers say how far.
  const share = (level) => Math.min(Math.max((level - low) / (high - low || 1), 0), 1);
  return {
    left, right, top, bottom, width, height,
    x: (step) => left + (step / last) * (width - left - right),
    y: (level) => top + (1 - share(level)) * (height - top - bottom),
    stepAt: (at) => Math.min(Math.max(Math.round(((at * width - left) / (width - left - right)) * (count - 1)), 0), count - 1),
  }; // prettier-ignore
};

module.exports = { retentionLines, fidelityLines, pathLines, rangeOf, axesOf };
