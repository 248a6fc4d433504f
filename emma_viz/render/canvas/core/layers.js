// The layers of models that move together.
"use strict";
const { nearest } = require("./numbers.js");

/** What models are called where there is no room for their names. */
const LETTERS = "ABCDEFGH";

const layerLabel = (layer) => (layer < 0 ? "embedding" : `layer ${layer}`);

/** A difference of two models, by their letters. */
const pairLabel = ([first, second]) => `${LETTERS[first]} \u2212 ${LETTERS[second]}`;

/** The steps of the slider: per step, the index of each model's layer. Unequal depths move together by depth. */
const stepsOf = (layersOfModels) => {
  const longest = layersOfModels.reduce((best, each) => (each.length > best.length ? each : best), []);
  const deep = layersOfModels.every((layers) => layers.at(-1) === longest.at(-1));
  return longest.map((layer, step) =>
    layersOfModels.map((layers) =>
      deep // the same layers, but for some that one has not
        ? layers.indexOf(nearest(layers, layer))
        : Math.round((step * (layers.length - 1)) / Math.max(longest.length - 1, 1))
    )
  );
};

/** The model with most layers: its layers are the steps of the slider. */
const longestOf = (models) => models.reduce((best, model) => (model.layers.length > best.layers.length ? model : best));

/** The layers that the steps are called by. */
const stepLabels = (models) => longestOf(models).layers.map((layer) => (layer < 0 ? "e" : String(layer)));

/** A model's values along the steps; where it has one layer alone, at the step of that depth and nowhere else. */
const alongSteps = (values, models, steps, index) => {
  const { layers, n_layer } = models[index];
  const longest = longestOf(models);
  const depths = longest.layers.map((layer) => Math.abs(layer / longest.n_layer - layers[0] / n_layer));
  const only = layers.length === 1 && steps.length > 1 ? depths.indexOf(Math.min(...depths)) : -1;
  return steps.map((step, at) => {
    const value = values[step[index]];
    return value === null || (only >= 0 && at !== only) ? NaN : value;
  });
};

module.exports = { LETTERS, layerLabel, pairLabel, stepsOf, longestOf, stepLabels, alongSteps };
