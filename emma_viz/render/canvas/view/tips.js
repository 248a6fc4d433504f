// What is explained where it is pointed at.
"use strict";

const TIPS = {
  inside:
    "Every file holds the photograph, prompt, answers and the recipe that drew it: who gets the file gets them. emma-viz figure --no-recipe draws without.",
  kind: "What a map shows: one number for each image token's patch.",
  scale:
    "One colour scale for all models and layers makes maps comparable. 'Each map' stretches every map to its own range: do not compare colours then.",
  blend: "How strongly the map's colours are laid over the photograph.",
  colours: "The colour table. Viridis, magma, inferno and cividis read well for colour-blind people.",
  smooth: "Draw maps with soft edges. The numbers are one a patch all the same.",
  decoded: "Pixels that the lens reads from the image tokens at this layer.",
  map: "One number a patch, from the decoded pixels; r is its correlation with the map of the true pixels.",
  highlight: "The map laid over the photograph.",
  truth: "The pixels that the model saw, in the frame of its patches.",
  truemap: "The same map made from the true pixels: what a perfect decoding would show.",
  difference: "One model's map minus another's, patch by patch, on the raw values. Choose which two.",
  weakDifference: "One of the two maps does not beat its control: their difference shows nothing of the image.",
  r2: "R²: share of the pixel variance of this image that the decoding explains. 1 is perfect, 0 is one flat colour.",
  site: "Where in a block the states were read; resid_post is what a block hands to the next one.",
  lens: "How well the lens decodes this layer on images it was not fitted on. What it cannot decode may still be there.",
  controls:
    "On images that the lens was not fitted on, against pictures drawn without this layer's states. Dashed frames and \u2020: it is no better than they are, and shows nothing of the image.",
  retention:
    "How much of the picture can be decoded at each layer: R² of the decoded pixels (solid), and the lens's own R² on held-out images (dotted).",
  fidelity: "How alike each layer's map and the map of the true pixels are: Pearson's r.",
  path: "The map's value at this patch, or its mean over the region, layer by layer. Dashed: the same value for the true pixels.",
  methods:
    "Gradient: an estimate from two passes. Knock-out: measured, a run a token. Frozen decomposition: what came through each position at each layer, exact and not causal.",
  without:
    "Replaces the kept place's tokens by the mean token, and 19 other places of its shape, or as many as there are, in turn: 20 runs of each model.",
  mask: "A new run: this place of the image is painted in the mean colour of the rest, and the same models are asked again.",
  words: "Logit lens: the words that the model's own output layer would read from this image token at this layer.",
};

module.exports = { TIPS };
