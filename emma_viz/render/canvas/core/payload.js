// What Python sends of one image, as numbers, and the maps in it.
"use strict";
const { bytesOf, floatsOf, tableOf } = require("./bytes.js");
const { mean, subtract } = require("./numbers.js");

/** A payload with its base64 turned into numbers; pictures that come as files stay addresses until they are drawn. */
const unpack = (payload) => {
  if (payload.schema !== 3) throw new Error(`This page reads payloads of schema 3, and got ${payload.schema}.`);
  const tables = Object.fromEntries(Object.entries(payload.tables).map(([name, hex]) => [name, tableOf(hex)]));
  const models = payload.models.map((model, source) => ({
    ...model,
    source,
    decoded: model.decoded.encoding === "raw" ? { ...model.decoded, data: bytesOf(model.decoded.data) } : model.decoded,
    maps: Object.fromEntries(
      Object.entries(model.maps).map(([kind, map]) => [
        kind,
        { ...map, values: floatsOf(map.values), true: floatsOf(map.true) },
      ])
    ),
    truth: bytesOf(model.truth),
  }));
  return { ...payload, evidence: payload.evidence || {}, tables, models };
};

const mapOf = (model, kind, index) => {
  const cells = model.grid[0] * model.grid[1];
  return model.maps[kind].values.subarray(index * cells, (index + 1) * cells);
};

/** The colour limits of one map. `scale` is shared, per_row, per_map, or [low, high]. */
const limitsOf = (model, kind, index, scale) => {
  if (Array.isArray(scale)) return scale.map(Math.fround);
  const found = model.maps[kind].limits[scale];
  return scale === "per_map" ? found[index] : found;
};

/** Means of a map over a region's patches, one a layer. */
const trajectory = (model, kind, patches) =>
  model.layers.map((_, index) => {
    const map = mapOf(model, kind, index);
    return mean(patches.map((patch) => map[patch]));
  });

/** First minus second at the indices of their layers; null where those are not one layer. */
const differenceAt = ([first, second], kind, [i, j]) =>
  first.layers[i] === second.layers[j] ? subtract(mapOf(first, kind, i), mapOf(second, kind, j)) : null;

module.exports = { unpack, mapOf, limitsOf, trajectory, differenceAt };
