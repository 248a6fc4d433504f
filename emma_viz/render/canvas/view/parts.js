// The parts of a canvas that stand from its first moment to its last.
"use strict";
const { chartOf } = require("./chart.js");
const { make, tipped } = require("./elements.js");
const { keylistOf } = require("./keylist.js");
const { typedOf } = require("./limits.js");
const { runsOf } = require("./runs.js");
const { TIPS } = require("./tips.js");

const button = (attributes, more = "") => make("button", { type: "button", class: `ev-button${more}`, ...attributes });

const barOf = (act) => {
  const select = (name, label, tip) => {
    const box = make("select", { "data-set": name, "aria-label": label });
    box.addEventListener("change", () => act.set({ [name]: box.value }));
    return make("label", { class: "ev-field" }, tipped(label, tip, box), box);
  };
  const blend = make("input", {
    type: "range",
    min: "0",
    max: "1",
    step: "0.05",
    "data-set": "blend",
    "aria-label": "Highlight strength",
  });
  blend.addEventListener("input", () => act.set({ blend: Number(blend.value) }));
  const smooth = make("input", { type: "checkbox", "data-set": "smooth" });
  smooth.addEventListener("change", () => act.set({ smooth: smooth.checked }));
  const menu = make("div", { role: "menu", "aria-label": "Save" });
  const offer = make(
    "div",
    { class: "ev-menu", hidden: true },
    menu,
    make("p", { class: "ev-inside", text: TIPS.inside })
  );
  const saving = button({ "aria-haspopup": "menu", "aria-expanded": "false", text: "Save \u25be" });
  const saver = make("div", { class: "ev-saver" }, saving, offer);
  const linker = button({ text: "Copy link", title: "An address that restores this view" });
  const theme = button({ "aria-label": "Light or dark", title: "Light or dark", text: "\u25d0" }, " ev-icon");
  const keys = keylistOf(act);
  const typed = typedOf(act);
  const runs = runsOf(act);
  const bar = make(
    "div",
    { class: "ev-bar" },
    select("kind", "Map", TIPS.kind),
    select("scale", "Scale", TIPS.scale),
    typed.limits,
    select("colours", "Colours", TIPS.colours),
    make("label", { class: "ev-field" }, tipped("Highlight", TIPS.blend, blend), blend),
    make("label", { class: "ev-field" }, smooth, tipped("Smooth", TIPS.smooth, smooth)),
    make("span", { class: "ev-gap" }),
    runs.runs,
    saver,
    linker,
    keys.keyed,
    theme
  );
  return { ...keys, ...typed, ...runs, bar, blend, smooth, menu, offer, saving, saver, linker, theme };
};

const trackOf = (act) => {
  const back = button({ "aria-label": "Previous layer", title: "Previous layer (\u2190)", text: "\u2039" }, " ev-icon");
  const play = button(
    { "aria-label": "Play", title: "Play through the layers (space)", text: "\u25b6\ufe0e" },
    " ev-icon"
  );
  const next = button({ "aria-label": "Next layer", title: "Next layer (\u2192)", text: "\u203a" }, " ev-icon");
  const slider = make("input", {
    type: "range",
    min: "0",
    max: "0",
    step: "1",
    value: "0",
    class: "ev-slider",
    "aria-label": "Layer",
  });
  const where = make("output", { class: "ev-where", "aria-live": "off" });
  slider.addEventListener("input", () => act.go({ type: "set", step: Number(slider.value) }));
  back.addEventListener("click", () => act.go({ type: "move", by: -1 }));
  next.addEventListener("click", () => act.go({ type: "move", by: 1 }));
  play.addEventListener("click", () => act.go({ type: "play" }));
  return { track: make("div", { class: "ev-scrub" }, back, play, next, slider, where), play, slider, where };
};

const curvesOf = (act, life) => {
  const choose = (step) => act.go({ type: "set", step });
  const retentionBox = make("div", { class: "ev-chart" });
  const fidelityBox = make("div", { class: "ev-chart" });
  return {
    curves: make("div", { class: "ev-curves" }, retentionBox, fidelityBox),
    fidelityBox,
    retention: chartOf(retentionBox, { title: "Retention: R\u00b2", tip: TIPS.retention }, choose, life),
    fidelity: chartOf(fidelityBox, { title: "Fidelity: r with the true map", tip: TIPS.fidelity }, choose, life),
  };
};

/**
 * The parts, by name, inside `frame`.
 *
 * @param act what the controls do; @param life keeps what the charts hold outside their elements
 */
const partsOf = (act, life) => {
  const own = { ...barOf(act), ...trackOf(act), ...curvesOf(act, life) };
  const rows = make("div", { class: "ev-rows" });
  const answers = make("div", { class: "ev-answers" });
  const inspector = make("section", { class: "ev-inspector", "aria-label": "Patch inspector" });
  // It scrolls where it is too low, and keys reach what scrolls.
  const beside = { class: "ev-aside", tabindex: "0", role: "group", "aria-label": "Answers and patch" };
  const main = make("div", { class: "ev-main" }, rows, make("div", beside, answers, inspector));
  const legend = make("div", { class: "ev-legend" });
  // It stands in the legend.
  const pairs = make("select", { "data-set": "pair", "aria-label": "Difference", title: TIPS.difference });
  pairs.addEventListener("change", () => act.set({ pair: pairs.value.split(",").map(Number) }));
  const methods = make("select", { "data-set": "method", "aria-label": "Evidence", title: TIPS.methods });
  methods.addEventListener("change", () => act.method(methods.value));
  const veil = make("div", { class: "ev-veil", role: "status", "aria-live": "polite" });
  const notice = make("div", { class: "ev-notice", role: "status", hidden: true });
  const spoken = make("div", { class: "ev-spoken", role: "status", "aria-live": "polite" });
  const frame = make(
    "div",
    { class: "ev", "data-state": "empty" },
    notice,
    own.bar,
    main,
    legend,
    own.track,
    own.curves,
    veil,
    spoken
  );
  // `path`, `without` and `strips` come with the first result.
  return { ...own, rows, answers, inspector, main, legend, pairs, methods, veil, notice, spoken, frame, path: null, without: null, strips: [] };
};

module.exports = { partsOf };
