// What a canvas shows at one moment: one object, made here, passed to whoever reads or changes it.
"use strict";
const { longestOf } = require("./layers.js");
const { linkedOrder, pairKey } = require("./order.js");
const { limitsOf, mapOf } = require("./payload.js");
const { translate } = require("./patches.js");

/** The state of a canvas without a result. */
const freshState = () => ({
  result: null, // the unpacked payload
  steps: [], // per step, the index of each model's layer
  scrubber: { step: 0, count: 0, playing: false, rest: 0 },
  view: { kind: "distance", scale: "shared", colours: "viridis", blend: 0.8, smooth: false, pair: [0, 1] },
  hovered: null, // {model, patch, region}: what the pointer is over
  locked: null, // the same, kept by a click, or {model, region, box} by a drag
  drag: null, // {model, from, region}: a drag under way
  word: null, // {model, index, last, method, text, values, limit, …}: the words whose evidence is shown
  pictures: { photo: null, pale: null, decoded: [], truths: [] }, // decoded: per model, per layer
  reading: { found: new Map(), asked: null }, // "model:patch" → words at every layer
  changed: "all", // since the last drawing: everything, or nothing but the step
  pending: false, // whether a drawing is under way
  noted: "", // the link that the page was told last
  generation: 0, // counts results; answers to questions about an older one are dropped
  stats: { draws: 0, steps: new Set() },
});

/** The index of a model's layer at the present step. */
const indexOf = ({ steps, scrubber }, model) => steps[scrubber.step][model];

/** Whether a model's lens does not beat its control at the present step. */
const beatsNone = (state, model) => state.result.models[model].controls[indexOf(state, model)].beats === false;

/** The layer that the present step is called by. */
const currentLayer = ({ result, scrubber }) => longestOf(result.models).layers[scrubber.step];

/** Half the width of the difference's scale; null where the two models cannot be subtracted. */
const differenceLimit = ({ result, view }) => result.differences[pairKey(view.pair)]?.[view.kind] ?? null;

/** Whether the difference is drawn, of maps of which one at least does not beat its control. */
const weakDifference = (state) =>
  Boolean(differenceLimit(state)) && state.view.pair.some((model) => beatsNone(state, model));

/** What a model's map panel shows: {values, limits, table}. */
const shownMap = (state, model) => {
  const { result, view } = state;
  const [found, index] = [result.models[model], indexOf(state, model)];
  return {
    values: mapOf(found, view.kind, index),
    limits: limitsOf(found, view.kind, index, view.scale),
    table: result.tables[view.colours],
  };
};

/** The evidence for a word in a model, at the present layer: {values, limit, parts}; null while there is none. */
const shownEvidence = (state, model) => {
  const { result, word } = state;
  const values = word?.values[model];
  if (!values) return null;
  const [rows, columns] = result.models[model].grid;
  const at = indexOf(state, model);
  const shown = word.layered ? values.subarray(at * rows * columns, (at + 1) * rows * columns) : values;
  return { values: shown, limit: word.limit, parts: word.parts?.[model]?.[at] || null };
};

/** The colour limits of the map of the true pixels. */
const trueLimits = ({ result, view }) =>
  Array.isArray(view.scale) ? view.scale.map(Math.fround) : result.models[0].maps[view.kind].limits.true[view.scale];

/** The rectangle of a model's patches that is the chosen place; null where its grid does not reach. */
const regionFor = ({ result }, chosen, model) => {
  const [from, to] = [result.models[chosen.model], result.models[model]];
  if (from === to) return chosen.region;
  if (chosen.whole) return { top: 0, left: 0, bottom: to.grid[0] - 1, right: to.grid[1] - 1 };
  return translate(chosen.region, from, to);
};

/** The place that the inspector shows: what is kept, else what is pointed at, else the whole image. */
const chosenNow = ({ result, locked, hovered }) => {
  const [height, width] = result.models[0].grid;
  return (
    locked || hovered || { model: 0, region: { top: 0, left: 0, bottom: height - 1, right: width - 1 }, whole: true }
  );
};

/** Whether a rectangle is one patch. */
const isPatch = (region) => region.top === region.bottom && region.left === region.right;

/** The view by the names that links use; what is as it was at first is null. */
const linkedView = (state) => {
  const { view, locked, word } = state;
  const { top, left, bottom, right } = locked?.region || {};
  return {
    layer: currentLayer(state),
    kind: view.kind,
    scale: Array.isArray(view.scale) ? view.scale.join(":") : view.scale,
    colours: view.colours,
    blend: view.blend === 0.8 ? null : view.blend,
    smooth: view.smooth ? 1 : null,
    order: linkedOrder(state.result.models),
    pair: view.pair.join() === "0,1" ? null : view.pair,
    patch: locked && !locked.box ? locked.patch : null,
    region: locked && locked.box ? [top, left, bottom, right] : null,
    word: word ? [word.model, word.index, ...(word.last > word.index ? [word.last] : [])] : null,
    evidence: word?.method || null,
  };
};

module.exports = {
  freshState, indexOf, beatsNone, weakDifference, currentLayer, differenceLimit, shownEvidence, shownMap, trueLimits, regionFor, chosenNow, isPatch, linkedView,
}; // prettier-ignore
