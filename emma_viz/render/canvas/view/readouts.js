// The numbers beside the pictures, and the place of the layer.
"use strict";
const { layerLabel } = require("../core/layers.js");
const { figures, fixed, mean } = require("../core/numbers.js");
const { patchesIn } = require("../core/patches.js");
const { indexOf, isPatch, regionFor, shownEvidence, shownMap, weakDifference } = require("../core/state.js");
const { make, renew } = require("./elements.js");
const { TIPS } = require("./tips.js");

const signed = (value) => (value > 0 ? "+" : "") + figures(value, 2);

/** What is said below a word's evidence: its value at the place, or the parts of the logit at this layer. */
const showEvidence = ({ state, parts }, index, region) => {
  const found = shownEvidence(state, index);
  const slot = parts.rows.querySelector(`[data-model="${index}"] [data-number=evidence]`);
  slot.textContent = slot.title = "";
  slot.classList.remove("ev-parts");
  if (!found) return;
  const inside = region && patchesIn(state.result.models[index], region).map((patch) => found.values[patch]);
  const here = region && `${isPatch(region) ? "here" : "sum"} ${signed(inside.reduce((a, b) => a + b, 0))}`;
  const [image, text, bias] = found.parts || [];
  // A number stays beside its name where the line is broken.
  const shares = found.parts ? `image\u00a0${signed(image)} text\u00a0${signed(text)} bias\u00a0${signed(bias)}` : "";
  slot.textContent = here || shares;
  slot.title = shares;
  slot.classList.toggle("ev-parts", Boolean(shares && !here));
};

/** The number under the pointer, in the map's caption. */
const showValue = ({ state, parts }, index, chosen) => {
  const slot = parts.rows.querySelector(`[data-model="${index}"] [data-number=value]`);
  const region = chosen && regionFor(state, chosen, index);
  const shown = region && shownMap(state, index).values;
  const value = region ? mean(patchesIn(state.result.models[index], region).map((patch) => shown[patch])) : NaN;
  showEvidence({ state, parts }, index, region);
  slot.textContent = region ? `${isPatch(region) ? "here" : "mean"} ${figures(value)}` : "";
};

/** Whether what the lens draws of this layer beats its controls, in words; a mark and dashed frames where it does not. */
const controlOf = ({ beats, said }) =>
  make("span", {
    class: beats === false ? "ev-warn" : "",
    title: `${TIPS.controls} It ${said}.`,
    text: beats === null ? "control not known" : beats ? "beats its control" : "\u2020 does not beat its control",
    "data-number": "control",
  });

const scoresOf = ({ view }, model, at) => {
  const quality = model.lens_quality[at];
  const kind = model.name.endsWith(`, ${model.lens_kind}`) ? "" : `${model.lens_kind} lens, `;
  return [
    make("span", { class: "ev-at", text: layerLabel(model.layers[at]) }),
    make("span", { title: TIPS.r2, text: `R\u00b2 ${fixed(model.scores.r2[at])}`, "data-number": "r2" }),
    make("span", {
      title: TIPS.map,
      text: `map r ${fixed(model.maps[view.kind].correlation[at])}`,
      "data-number": "r",
    }),
    controlOf(model.controls[at]),
    make("span", {
      title: TIPS.lens + " " + model.lens,
      text: `${kind}${quality ? `held out ${fixed(quality.r2)}` : "not measured"}`,
      "data-number": "lens",
    }),
  ];
};

const referenceText = (state, chosen) => {
  const { result, view } = state;
  const region = chosen && regionFor(state, chosen, 0);
  if (region) {
    const map = result.models[0].maps[view.kind].true;
    return `true value here ${figures(mean(patchesIn(result.models[0], region).map((patch) => map[patch])))}`;
  }
  const text = `${result.image.name}, ${result.image.size[0]} \u00d7 ${result.image.size[1]}`;
  return result.image.uniform ? `the image is uniform, R\u00b2 and r are not defined; ${text}` : text;
};

/** The numbers of the present step, and of the place that is pointed at or kept. */
const showNumbers = (stage) => {
  const { state, parts } = stage;
  const { models } = state.result;
  const chosen = state.hovered || state.locked;
  models.forEach((model, index) => {
    showValue(stage, index, chosen);
    renew(
      parts.rows.querySelector(`[data-model="${index}"] .ev-numbers`),
      scoresOf(state, model, indexOf(state, index))
    );
  });
  const mark = parts.rows.querySelector("[data-number=difference]");
  if (mark) mark.textContent = weakDifference(state) ? " \u2020" : "";
  const text = referenceText(state, chosen);
  const reference = parts.rows.querySelector("[data-reference]");
  if (reference.textContent !== text) reference.textContent = reference.title = text;
  const layers = models.map((model, index) => model.layers[indexOf(state, index)]);
  const same = layers.every((layer) => layer === layers[0]);
  const last = Math.max(...models.map((model) => model.n_layer)) - 1;
  parts.where.textContent = same ? `${layerLabel(layers[0])} of 0\u2013${last}` : layers.map(layerLabel).join(" | ");
};

module.exports = { showNumbers };
