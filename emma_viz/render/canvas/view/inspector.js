// The inspector: one place, layer by layer.
"use strict";
const { stepLabels } = require("../core/layers.js");
const { pathLines } = require("../core/lines.js");
const { chosenNow, isPatch } = require("../core/state.js");
const { chartOf } = require("./chart.js");
const { make } = require("./elements.js");
const { askWords, showWords } = require("./reading.js");
const { drawStrips, markStrips, stripOf } = require("./strips.js");
const { TIPS } = require("./tips.js");
const { showWithout } = require("./without.js");

const HINT = "Point at a patch to see it layer by layer; click to keep it, drag a box for a region.";

const build = (stage) => {
  const { state, parts, act, life } = stage;
  const title = make("b", { class: "ev-inspected" });
  const release = make("button", {
    type: "button",
    class: "ev-chip",
    text: "release \u2715",
    title: "Release (Esc)",
    onclick: () => act.lock(null),
  });
  const masker = make("button", {
    type: "button",
    class: "ev-chip ev-mask",
    text: "mask and run again",
    title: TIPS.mask,
    onclick: () => stage.host.mask(state.result.models[state.locked.model].source, state.locked.region),
  });
  const places = make("div", { class: "ev-strips" });
  parts.without = make("div", { class: "ev-without", hidden: true });
  const pathBox = make("div", { class: "ev-chart ev-path" });
  parts.strips = state.result.models.map((model, index) => stripOf(stage, places, model, index));
  parts.inspector.replaceChildren(
    make("header", {}, title, release, masker),
    make("p", { class: "ev-soft ev-hint", text: HINT }),
    parts.without,
    places,
    pathBox
  );
  const choose = (step) => act.go({ type: "set", step });
  parts.path = chartOf(pathBox, { title: "Map value by layer", tip: TIPS.path, digits: 3 }, choose, life);
};

const titleOf = ({ whole, region }) => {
  if (!whole && isPatch(region)) return `Patch: row ${region.top}, column ${region.left}`;
  const extent = `${region.bottom - region.top + 1} \u00d7 ${region.right - region.left + 1} patches`;
  return `${whole ? "Whole image" : "Region"}: ${extent}`;
};

/** Forgets the parts of a result that is gone. */
const clearInspector = ({ parts }) => {
  parts.path?.end();
  parts.path = null;
};

/** Shows the chosen place: its title, its path, its strips, and its words. */
const showInspector = (stage) => {
  const { host, state, parts } = stage;
  if (!state.result) return;
  const { models } = state.result;
  const chosen = chosenNow(state);
  if (!parts.path) build(stage);
  const { region, model } = chosen;
  parts.inspector.querySelector(".ev-inspected").textContent = titleOf(chosen);
  parts.inspector.classList.toggle("ev-whole", Boolean(chosen.whole));
  parts.inspector.querySelector(".ev-chip").hidden = !state.locked;
  parts.inspector.querySelector(".ev-mask").hidden = !(state.locked && host.mask && models[model].live);
  showWithout(stage);
  parts.path.set({ lines: pathLines(state, chosen), labels: stepLabels(models) });
  parts.path.step(state.scrubber.step);
  drawStrips(stage);
  if (isPatch(region) && host.words && models.some((each) => each.live))
    askWords(stage, region.top * models[model].grid[1] + region.left, model);
};

/** Follows a drawing: after a step alone, nothing but the mark of the layer and the words move. */
const showInspected = (stage) => {
  const { state, parts } = stage;
  if (!parts.path) return;
  parts.path.step(state.scrubber.step);
  if (state.changed === "step") markStrips(stage);
  else drawStrips(stage);
  showWords(stage);
};

module.exports = { clearInspector, showInspector, showInspected };
