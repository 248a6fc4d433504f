// A result comes, or a link's view of the one that is shown.
"use strict";
const { fade, opaque } = require("./core/colours.js");
const { stepsOf } = require("./core/layers.js");
const { lookOf, placeOf } = require("./core/looks.js");
const { movedUp, orderOf, placesIn, reordered } = require("./core/order.js");
const { unpack } = require("./core/payload.js");
const { scrub } = require("./core/scrubber.js");
const { offered, showAnswers } = require("./view/answers.js");
const { showCurves } = require("./view/curves.js");
const { canvasOf, make, pictureOf } = require("./view/elements.js");
const { clearInspector, showInspector } = require("./view/inspector.js");
const { showLegend } = require("./view/legend.js");
const { layout, showRows } = require("./view/rows.js");
const { abandon, reorderWord } = require("./word.js");

const SCALES = [
  ["shared", "one for all"],
  ["per_row", "each model"],
  ["per_map", "each map"],
  ["typed", "typed limits"],
];

const sideOf = ({ grid, patch }) => [grid[0] * patch, grid[1] * patch];

const paleOf = (photo, { greying, lightening }) => {
  const canvas = make("canvas");
  canvas.width = photo.naturalWidth;
  canvas.height = photo.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(photo, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  fade(pixels.data, greying, lightening);
  context.putImageData(pixels, 0, 0);
  return canvas;
};

const decodedOf = (model) => {
  const [height, width] = sideOf(model);
  const { encoding, data } = model.decoded;
  if (encoding === "pictures") return Promise.all(data.map(pictureOf));
  return model.layers.map((_, i) => canvasOf(opaque(data, 3 * i * height * width, height * width), width, height));
};

/** The pictures of a result, drawn once: the photograph, its pale copy, every layer's pixels, the true pixels. */
const picturesOf = async ({ image, models, overlay }) => {
  const [photo, decoded] = await Promise.all([pictureOf(image.src), Promise.all(models.map(decodedOf))]);
  const truths = models.map((model) => {
    const [height, width] = sideOf(model);
    return canvasOf(opaque(model.truth, 0, height * width), width, height);
  });
  return { photo, pale: paleOf(photo, overlay), decoded, truths };
};

/** Fills the menus with what the result offers, and sets them to the view. */
const fillMenus = ({ state: { result, view }, parts }) => {
  const options = (name, entries, typed = false) => {
    const box = parts.bar.querySelector(`[data-set=${name}]`);
    box.replaceChildren(...entries.map(([value, label]) => make("option", { value, text: label })));
    if (!typed && !entries.some(([value]) => value === view[name])) view[name] = entries[0][0];
    box.value = typed ? "typed" : view[name];
  };
  const colours = Object.keys(result.tables).filter((name) => name !== "RdBu");
  options("kind", result.kinds.map((kind) => [kind.id, kind.name])); // prettier-ignore
  options("scale", SCALES, Array.isArray(view.scale));
  options("colours", colours.map((name) => [name, name])); // prettier-ignore
  parts.blend.value = String(view.blend);
  parts.smooth.checked = view.smooth;
};

const restoreLook = ({ state }, wanted) => {
  const { view, lost } = lookOf(state.view, state.result, wanted);
  state.view = view;
  return lost;
};

const restorePlace = (stage, wanted, lostBefore) => {
  const { state, act } = stage;
  const { step, locked, word, lost } = placeOf(state.result, wanted, (model, index) => offered(stage, model, index));
  if (step !== null) act.go({ type: "set", step });
  if (locked) act.lock(locked);
  if (word && !state.word) act.attribute(word.model, word.index, { last: word.last, method: word.method });
  const all = [...lostBefore, ...lost];
  if (all.length && !wanted.quiet) act.say(`Not restored from the link: ${all.join(", ")}.`);
};

const takeResult = (state, result, pictures) => {
  const before = state.steps.length;
  const steps = stepsOf(result.models);
  const step = before === steps.length ? state.scrubber.step : Math.floor((steps.length - 1) / 2);
  const scrubber = scrub({ ...state.scrubber, step }, { type: "count", count: steps.length });
  const reading = { found: new Map(), asked: null };
  if (Math.max(...state.view.pair) >= result.models.length) state.view = { ...state.view, pair: [0, 1] };
  Object.assign(state, {
    result,
    pictures,
    steps,
    scrubber,
    reading,
    hovered: null,
    locked: null,
    drag: null,
    word: null,
  });
};

/** Everything that has a part for each model. */
const showModels = (stage) => {
  clearInspector(stage);
  showRows(stage);
  showAnswers(stage, stage.state.result.models, false);
  showLegend(stage);
  showCurves(stage);
  showInspector(stage);
};

/** Puts the models into another order; `order` names the present ones, the first first. */
const reorder = (stage, order) => {
  const { state, act } = stage;
  const places = placesIn(order);
  const moved = (values) => order.map((from) => values[from]);
  const there = (chosen) => chosen && { ...chosen, model: places[chosen.model] };
  const { pictures, locked, word } = state;
  const result = reordered(state.result, order);
  Object.assign(state, {
    result,
    pictures: { ...pictures, decoded: moved(pictures.decoded), truths: moved(pictures.truths) },
    steps: state.steps.map(moved),
    reading: { found: new Map(), asked: null },
    hovered: null,
    locked: there(locked),
    word: word && reorderWord(word, order),
  });
  showModels(stage);
  act.invalidate();
};

/** Moves a model one row up, and keeps the focus on it. */
const moveUp = (stage, index) => {
  reorder(stage, movedUp(stage.state.result.models.length, index));
  stage.parts.rows.querySelector(`[data-model="${Math.max(index - 1, 1)}"] .ev-up`)?.focus();
};

/** Shows a result; `wanted` is the view of a link, to be restored, or null. */
const showResult = async (stage, payload, wanted) => {
  const { state, parts, host, life, act } = stage;
  if (life.over) throw new Error("This canvas has been destroyed; mount another one.");
  abandon(stage);
  const mine = ++state.generation;
  const came = unpack(payload);
  const order = orderOf(wanted?.order, came.models);
  const result = order ? reordered(came, order) : came;
  const pictures = await picturesOf(result);
  if (mine !== state.generation) return;
  takeResult(state, result, pictures);
  act.apply(state.scrubber);
  parts.frame.classList.remove("ev-locked");
  const lost = wanted ? restoreLook(stage, wanted) : [];
  parts.slider.max = String(state.steps.length - 1);
  parts.frame.dataset.state = "result";
  parts.veil.replaceChildren();
  fillMenus(stage);
  showModels(stage);
  for (const key of Object.keys(result.evidence).slice(0, 1)) {
    const [model, index, last] = key.split(",").map(Number);
    act.attribute(model, index, { last: last ?? index, method: "" });
  }
  if (wanted) restorePlace(stage, wanted, lost);
  parts.saver.hidden = !host.save;
  state.stats.steps.clear();
  act.invalidate();
};

/** Restores a link's view of the result that is shown; says what it names and is not here. */
const showView = (stage, wanted) => {
  const { state, act } = stage;
  const { models } = state.result;
  const order = orderOf(wanted.order || models.map((_, source) => source).join(), models);
  if (order) reorder(stage, order);
  const lost = restoreLook(stage, wanted);
  fillMenus(stage);
  if (state.word) act.forget();
  act.lock(null);
  restorePlace(stage, wanted, lost);
  showRows(stage); // the pair may be another
  showLegend(stage);
  showCurves(stage);
  act.invalidate();
};

/** Changes the view, and what depends on it. */
const changeView = (stage, change) => {
  const { state, act } = stage;
  state.view = { ...state.view, ...change };
  if (!state.result) return;
  const { kind, scale } = state.view;
  if (scale === "typed") state.view.scale = [...state.result.models[0].maps[kind].limits.shared]; // to begin with
  if ("pair" in change) showRows(stage);
  if ("kind" in change || "scale" in change) {
    showCurves(stage);
    showInspector(stage);
  }
  showLegend(stage);
  if ("scale" in change) layout(stage);
  act.invalidate();
};

module.exports = { showResult, showView, changeView, moveUp };
