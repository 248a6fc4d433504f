// What the keys do.
"use strict";
const { figures } = require("./core/numbers.js");
const { movePatch, regionOf } = require("./core/patches.js");
const { scrub } = require("./core/scrubber.js");
const { regionFor, shownEvidence, shownMap } = require("./core/state.js");

const TYPING = "input, textarea, select, [contenteditable], [role=listbox], [role=dialog]";
const RUNS = { "[": -1, "]": 1 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Esc leaves the innermost of what is open; whether anything was. */
const leave = ({ state, parts, act }) => {
  if (!parts.keylist.hidden) act.openKeys(false);
  else if (!parts.offer.hidden) act.openMenu(false);
  else if (!parts.runList.hidden) act.openRuns(false);
  else if (state.locked) act.lock(null);
  else if (state.word) act.forget();
  else return false;
  return true;
};

/** Enter on a panel keeps a patch of it, Shift and an arrow move it; its place and value are told. */
const walk = ({ state, parts, act }, panel, key) => {
  const model = Number(panel.dataset.model);
  const grid = state.result.models[model];
  const [rows, columns] = grid.grid;
  const there = state.locked && !state.locked.box ? regionFor(state, state.locked, model) : null;
  const from = there ? there.top * columns + there.left : Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  const patch = key === "Enter" ? from : movePatch(grid, from, ...ARROWS[key]);
  act.lock({ model, patch, region: regionOf(grid, patch) });
  const place = `row ${Math.floor(patch / columns)}, column ${patch % columns}`;
  const evidence = shownEvidence(state, model);
  const also = evidence ? `, evidence ${figures(evidence.values[patch])}` : "";
  parts.spoken.textContent = `${grid.name}, ${place}: ${figures(shownMap(state, model).values[patch])}${also}`;
};

const press = (stage, event) => {
  const { host, state, parts, act } = stage;
  if (!parts.frame.isConnected || !state.result) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const within = (selector) => event.target.closest && event.target.closest(selector);
  if (event.key === "Escape" && leave(stage)) return;
  if (within(TYPING)) return;
  if (event.key === "?") return act.openKeys(parts.keylist.hidden);
  if (RUNS[event.key]) return host.step?.(RUNS[event.key]);
  const panel = within("canvas[data-paint]");
  if (panel && parts.frame.contains(panel) && (event.key === "Enter" || (event.shiftKey && ARROWS[event.key]))) {
    event.preventDefault();
    return walk(stage, panel, event.key);
  }
  if (event.shiftKey || ((event.key === " " || event.key === "Enter") && within("button, a, summary"))) return;
  const after = scrub(state.scrubber, { type: "key", key: event.key });
  const vertical = event.key === "ArrowUp" || event.key === "ArrowDown" || event.key.startsWith("Page");
  if (after === state.scrubber || (vertical && !parts.frame.contains(event.target))) return;
  event.preventDefault();
  act.apply(after);
};

/** Listens to the keys, as long as the canvas lives. */
const followKeys = (stage) => stage.life.listen(document, "keydown", (event) => press(stage, event));

module.exports = { followKeys };
