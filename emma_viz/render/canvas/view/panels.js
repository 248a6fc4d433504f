// The pictures of a row: what each panel paints, and the outlines over it.
"use strict";
const { paint, tint, tintBoth } = require("../core/colours.js");
const { boxOf } = require("../core/patches.js");
const { differenceAt } = require("../core/payload.js");
const { beatsNone, differenceLimit, indexOf, regionFor, shownEvidence, shownMap, trueLimits, weakDifference } = require("../core/state.js");
const { canvasOf, layOut } = require("./elements.js");

const OF_A_LENS = new Set(["decoded", "map", "highlight"]);
const STILL = new Set(["truth", "truemap"]); // panels that show the same at every layer

const spread = ({ result }, context, picture, model, soft) => {
  context.imageSmoothingEnabled = soft;
  layOut(context, picture, result.models[model]);
};
const spreadPixels = (state, context, pixels, model) => {
  const [height, width] = state.result.models[model].grid;
  spread(state, context, canvasOf(pixels, width, height), model, state.view.smooth);
};

const painters = {
  decoded(state, context, model) {
    const picture = state.pictures.decoded[model][indexOf(state, model)];
    if (picture) spread(state, context, picture, model, false);
  },
  map(state, context, model) {
    const { values, limits, table } = shownMap(state, model);
    spreadPixels(state, context, paint(values, limits, table), model);
  },
  highlight(state, context, model) {
    const { pale } = state.pictures;
    if (pale) {
      context.imageSmoothingEnabled = true;
      context.drawImage(pale, 0, 0, context.canvas.width, context.canvas.height);
    }
    const settings = { strength: state.view.blend, rise: state.result.overlay.rise };
    const evidence = shownEvidence(state, model);
    const { values, limits, table } = shownMap(state, model);
    const pixels = evidence
      ? tintBoth(evidence.values, evidence.limit, state.result.tables.RdBu, settings)
      : tint(values, limits, table, settings);
    spreadPixels(state, context, pixels, model);
  },
  truth(state, context) {
    spread(state, context, state.pictures.truths[0], 0, false);
  },
  truemap(state, context) {
    const { result, view } = state;
    const pixels = paint(result.models[0].maps[view.kind].true, trueLimits(state), result.tables[view.colours]);
    spreadPixels(state, context, pixels, 0);
  },
  difference(state, context) {
    const { result, view } = state;
    const limit = differenceLimit(state);
    const [first, second] = view.pair;
    const places = [indexOf(state, first), indexOf(state, second)];
    const values = limit && differenceAt([result.models[first], result.models[second]], view.kind, places);
    if (values) spreadPixels(state, context, paint(values, [-limit, limit], result.tables.RdBu), first);
  },
};

const outline = (state, context, chosen, model, strong) => {
  const region = regionFor(state, chosen, model);
  if (!region) return;
  const box = boxOf(state.result.models[model], region);
  const { width, height } = context.canvas;
  const scale = width / context.canvas.clientWidth;
  const edges = [box.x * width, box.y * height, box.width * width, box.height * height];
  for (const [line, colour] of [[strong ? 4 : 3, "#000"], [strong ? 2 : 1.2, "#fff"]]) {
    context.lineWidth = line * scale;
    context.strokeStyle = colour;
    context.strokeRect(...edges);
  } // prettier-ignore
};

/** A dashed frame, dark on light: what the lens draws in it does not beat its control. */
const dash = (context, place, ratio) => {
  for (const [width, colour, pattern] of [[3, "#fff", []], [1.5, "#000", [4, 3]]]) {
    context.lineWidth = width * ratio;
    context.strokeStyle = colour;
    context.setLineDash(pattern.map((length) => length * ratio));
    context.strokeRect(...place);
  } // prettier-ignore
  context.setLineDash([]);
};

/** Whether a picture is of a layer where the lens does not beat its control; a word's evidence is judged apart. */
const isWeak = (state, paints, model) => {
  if (paints === "difference") return weakDifference(state);
  if (!OF_A_LENS.has(paints) || !beatsNone(state, model)) return false;
  return paints !== "highlight" || !shownEvidence(state, model);
};

const markWeak = (state, panel, context, model) => {
  if (!isWeak(state, panel.dataset.paint, model)) return;
  const ratio = panel.width / panel.clientWidth;
  dash(context, [1.5 * ratio, 1.5 * ratio, panel.width - 3 * ratio, panel.height - 3 * ratio], ratio);
};

/** Draws every panel; after a step alone, those that a step changes. */
const paintPanels = ({ state, parts }) => {
  const { changed, hovered, locked, drag } = state;
  for (const panel of parts.frame.querySelectorAll("canvas[data-paint]")) {
    if (changed === "step" && STILL.has(panel.dataset.paint)) continue;
    const context = panel.getContext("2d");
    const model = Number(panel.dataset.model);
    context.clearRect(0, 0, panel.width, panel.height);
    painters[panel.dataset.paint](state, context, model);
    markWeak(state, panel, context, model);
    if (hovered && !drag) outline(state, context, hovered, model, false);
    if (locked) outline(state, context, locked, model, true);
    if (drag && drag.region) outline(state, context, { model: drag.model, region: drag.region }, model, true);
  }
};

module.exports = { paintPanels, dash };
