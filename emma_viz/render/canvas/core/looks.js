// A link's view, checked against the result that it is to be restored on.
"use strict";
const { longestOf } = require("./layers.js");
const { regionOf } = require("./patches.js");

const SCALES = ["shared", "per_row", "per_map"];

const scaleOf = (text) => {
  if (SCALES.includes(text)) return text;
  if (!text || !/^[^:]+:[^:]+$/.test(text)) return undefined;
  const ends = text.split(":").map(Number);
  return ends.every(Number.isFinite) && ends[0] < ends[1] ? ends : undefined;
};

const pairOf = (text, count) => {
  const pair = (text || "").split(",").map(Number);
  const known = pair.length === 2 && pair.every((each) => Number.isInteger(each) && each >= 0 && each < count);
  return known && pair[0] !== pair[1] ? pair : undefined;
};

/** The view with what a link wants of it, and the names of what it wants and cannot have: {view, lost}. */
const lookOf = (view, result, wanted) => {
  const strength = Number(wanted.blend);
  const given = {
    kind: Object.hasOwn(result.models[0].maps, wanted.kind) ? wanted.kind : undefined,
    colours: Object.hasOwn(result.tables, wanted.colours) ? wanted.colours : undefined,
    scale: scaleOf(wanted.scale),
    blend: wanted.blend && strength >= 0 && strength <= 1 ? strength : undefined,
    pair: pairOf(wanted.pair, result.models.length),
  };
  const change = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  if (wanted.smooth) change.smooth = wanted.smooth === "1";
  return {
    view: { ...view, ...change },
    lost: Object.keys(given).filter((key) => wanted[key] && given[key] === undefined),
  };
};

const lockedOf = (model, wanted) => {
  const [height, width] = model.grid;
  const patch = Number(wanted.patch);
  if (wanted.patch && Number.isInteger(patch) && patch >= 0 && patch < height * width)
    return { model: 0, patch, region: regionOf(model, patch) };
  const edges = (wanted.region || "").split(",").map(Number);
  if (edges.length !== 4 || !edges.every(Number.isInteger)) return null;
  const [top, left, bottom, right] = edges;
  const inside = 0 <= top && top <= bottom && bottom < height && 0 <= left && left <= right && right < width;
  return inside ? { model: 0, box: true, region: { top, left, bottom, right } } : null;
};

/**
 * The layer, place and word that a link wants: {step, locked, word, lost}, each null where it wants none or cannot have it.
 *
 * @param offered whether a word can be asked about: (model's index, word's index) → boolean
 */
const placeOf = (result, wanted, offered) => {
  const at = wanted.layer === undefined ? -1 : longestOf(result.models).layers.indexOf(Number(wanted.layer));
  const step = at < 0 ? null : at;
  const locked = lockedOf(result.models[0], wanted);
  const [model, index, last = index] = (wanted.word || "").split(",").map(Number);
  const words = result.models[model]?.words || [];
  const there = Boolean(wanted.word && words[index] && words[last] && index <= last && offered(model, index));
  const lost = [];
  if (wanted.layer !== undefined && step === null) lost.push("layer");
  if ((wanted.patch || wanted.region) && !locked) lost.push("patch");
  if (wanted.word && !there) lost.push("word");
  return { step, locked, word: there ? { model, index, last, method: wanted.evidence || "" } : null, lost };
};

module.exports = { lookOf, placeOf };
