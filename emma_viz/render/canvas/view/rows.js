// The rows: a model's panels side by side, the reference below them, and how large they are.
"use strict";
const { LETTERS, pairLabel } = require("../core/layers.js");
const { panelSizes } = require("../core/sizes.js");
const { dot, make, tipped } = require("./elements.js");
const { TIPS } = require("./tips.js");

/** Pixels that the longest numbers above a row of panels take. */
const HEAD = 720;

const panel = (paints, model, label, tip) => {
  const canvas = make("canvas", {
    "data-paint": paints,
    "data-model": String(model),
    tabindex: "0",
    role: "img",
    "aria-label": label,
  });
  const caption = make("figcaption", {}, tipped(label, tip, canvas));
  if (paints === "difference") caption.append(make("span", { class: "ev-warn", "data-number": "difference", title: TIPS.weakDifference }));
  if (paints === "highlight") caption.append(make("span", { class: "ev-value", "data-number": "evidence" }));
  if (paints === "map") caption.append(make("span", { class: "ev-value", "data-number": "value" }));
  return make("figure", { class: "ev-panel" }, canvas, caption);
};
const forced = (model) =>
  model.forced.length
    ? [make("span", { class: "ev-warn ev-forced", title: model.forced.join("; "), text: "lens forced" })]
    : [];

const moverOf = (act, model, index) =>
  make("button", {
    type: "button", class: "ev-chip ev-up", text: "\u2191", title: "One row up", "aria-label": `Move ${model.name} one row up`,
    onclick: () => act.moveUp(index),
  }); // prettier-ignore

const rowOf = (act, model, index) =>
  make(
    "section",
    { class: "ev-row", "data-model": String(index), "aria-label": `${LETTERS[index]} ${model.name}` },
    make(
      "header",
      {},
      dot(index),
      make("b", { text: model.name, title: model.name }),
      ...(index ? [moverOf(act, model, index)] : []),
      ...forced(model),
      make("span", { class: "ev-numbers" })
    ),
    make(
      "div",
      { class: "ev-panels" },
      panel("decoded", index, "decoded", TIPS.decoded),
      panel("map", index, "map", TIPS.map),
      panel("highlight", index, "highlight", TIPS.highlight)
    )
  );

const referenceOf = (models, [first, second]) => {
  const panels = [panel("truth", 0, "true pixels", TIPS.truth), panel("truemap", 0, "true map", TIPS.truemap)];
  if (models.length > 1)
    panels.push(panel("difference", first, `difference ${pairLabel([first, second])}`, TIPS.difference));
  const note = make("span", { class: "ev-numbers", "data-reference": "" });
  return make(
    "section",
    { class: "ev-row", "aria-label": "Reference" },
    make("header", {}, make("b", { text: "Reference" }), note),
    make("div", { class: "ev-panels" }, ...panels)
  );
};

/** A row for each model of the result, and one for the reference. */
const showRows = (stage) => {
  const { state, parts, act } = stage;
  const { models } = state.result;
  const alike = state.steps.every((step) => new Set(step.map((at, index) => models[index].layers[at])).size === 1);
  // As wide as the longest place, so that nothing beside it moves.
  parts.where.style.width = `${alike ? 18 : 12 * models.length}ch`;
  parts.rows.replaceChildren(...models.map((model, i) => rowOf(act, model, i)), referenceOf(models, state.view.pair));
  layout(stage);
};

/** Empty frames in the place of the panels, while there is no result yet. */
const showBlanks = (stage, names) => {
  const { rows } = stage.parts;
  const frames = () => [0, 1, 2].map(() => make("figure", { class: "ev-panel" }));
  rows.replaceChildren(
    ...[...names, "Reference"].map((name, index) =>
      make(
        "section",
        { class: "ev-row ev-blank", "aria-hidden": "true" },
        make("header", {}, ...(index < names.length ? [dot(index)] : []), make("b", { text: name })),
        make("div", { class: "ev-panels" }, ...frames())
      )
    )
  );
  rows.dataset.blank = names.join();
  layout(stage);
};

const sizesNow = ({ state, parts }, blanks) => {
  const { frame, bar, legend, track } = parts;
  const narrow = window.innerWidth <= 1180 || frame.clientWidth < 760;
  frame.classList.toggle("ev-narrow", narrow);
  const aspect = state.result ? state.result.image.size[0] / state.result.image.size[1] : 1.5;
  const count = state.result ? state.result.models.length + 1 : blanks;
  const across = narrow ? frame.clientWidth - 12 : frame.clientWidth * 0.69;
  const others = [bar, legend, track].reduce((sum, part) => sum + part.offsetHeight, 0) + 116 + 5 * 8;
  // On a narrow page answers and bar are above the rows, and the slider stays in view below them.
  const room = narrow
    ? Math.max((window.innerHeight - 230) / Math.min(count, 2) - 46, 96)
    : (frame.clientHeight - others) / count - 46;
  return { narrow, across, count, others, ...panelSizes({ narrow, across, room, aspect }) };
};

/** Fits the rows into the place that the canvas has. */
const layout = (stage) => {
  const { state, parts, act } = stage;
  const blanks = parts.rows.querySelectorAll(".ev-blank").length;
  if (!state.result && !blanks) return;
  parts.frame.style.minHeight = ""; // what it would be without the panels
  const { narrow, across, count, others, tall, wide, image } = sizesNow(stage, blanks);
  parts.main.style.height = narrow ? "" : `${Math.ceil(count * (tall + 44))}px`;
  // Panels have a least size: with many models the canvas is taller than its place, and what follows comes after it.
  parts.frame.style.minHeight = narrow ? "" : `${Math.ceil(count * (tall + 44) + others)}px`;
  parts.frame.style.setProperty("--ev-cap", "18px");
  parts.frame.style.setProperty("--ev-ph", `${tall}px`);
  parts.frame.style.setProperty("--ev-pw", `${wide}px`);
  parts.frame.style.setProperty("--ev-head", `${narrow ? 0 : Math.floor(Math.min(across, HEAD))}px`);
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  for (const canvas of parts.frame.querySelectorAll("canvas[data-paint]")) {
    const [width, height] = image;
    canvas.style.width = `${Math.floor(width)}px`;
    canvas.style.height = `${Math.floor(height)}px`;
    canvas.width = Math.max(Math.floor(width * ratio), 1);
    canvas.height = Math.max(Math.floor(height * ratio), 1);
  }
  act.invalidate();
};

module.exports = { showRows, showBlanks, layout };
