// The layers of models that move together.
"use strict";
const { nearest } = require("./numbers.js");

/** What models are called where there is no room for their names. */
const LETTERS = "ABCDEFGH";

const layerLabel = (layer) => (layer < 0 ? "embedding" : `layer ${layer}`);

/** A difference of two models, by their letters. */
const pairLabel = ([first, second]) => `${LETTERS[first]} \u2212 ${LETTERS[second]}`;

/** The model with most layers: its layers are the steps of the slider. */
const longestOf = (models) => models.reduce((best, model) => (model.layers.length > best.layers.length ? model : best));

/** How deep each layer of a model lies, as a share of its blocks. */
const depthsOf = ({ layers, n_layer }) => layers.map((layer) => layer / n_layer);

/** The index of the depth that is nearest to one; of two, the first. */
const nearestAt = (depths, depth) => depths.indexOf(nearest(depths, depth));

/** The steps of the slider: per step, the index of each model's layer, that of the nearest depth. */
const stepsOf = (models) => {
  const depths = models.map(depthsOf);
  return depthsOf(longestOf(models)).map((depth) => depths.map((each) => nearestAt(each, depth)));
};

/** The layers that the steps are called by. */
const stepLabels = (models) => longestOf(models).layers.map((layer) => (layer < 0 ? "e" : String(layer)));

/** A model's values along the steps, each at the step that is nearest to its layer and nowhere else. */
const alongSteps = (values, models, steps, index) => {
  const along = depthsOf(longestOf(models));
  const homes = depthsOf(models[index]).map((depth) => nearestAt(along, depth));
  return steps.map((step, at) => {
    const value = values[step[index]];
    return value === null || homes[step[index]] !== at ? NaN : value;
  });
};

module.exports = { LETTERS, layerLabel, pairLabel, stepsOf, longestOf, stepLabels, alongSteps };
