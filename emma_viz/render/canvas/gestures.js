// What the pointer does: point at a patch, keep one, draw a box, turn the wheel.
"use strict";
const { patchAt, regionOf } = require("./core/patches.js");
const { showInspector } = require("./view/inspector.js");

/** Keeps a place, or with null releases it. */
const lock = (stage, chosen) => {
  const { state, parts, act } = stage;
  state.locked = chosen;
  parts.frame.classList.toggle("ev-locked", Boolean(chosen));
  if (!chosen) state.hovered = null;
  showInspector(stage);
  act.invalidate();
};

const hover = (stage, at) => {
  stage.state.hovered = at;
  if (!stage.state.locked) showInspector(stage);
  stage.act.invalidate();
};

const hit = ({ state }, event) => {
  const canvas = event.target.closest("canvas[data-paint]");
  if (!canvas || !state.result) return null;
  const box = canvas.getBoundingClientRect();
  const model = Number(canvas.dataset.model);
  const grid = state.result.models[model];
  const patch = patchAt(grid, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  return patch === null ? null : { model, patch, region: regionOf(grid, patch) };
};

const press = (stage, event) => {
  const at = hit(stage, event);
  if (at && event.button === 0) stage.state.drag = { model: at.model, from: at.patch, region: null };
};

const move = (stage, event) => {
  const { state, act } = stage;
  const { drag, hovered } = state;
  const at = hit(stage, event);
  if (drag) {
    if (!at || at.model !== drag.model || (at.patch === drag.from && !drag.region)) return;
    drag.region = regionOf(state.result.models[drag.model], drag.from, at.patch);
    return act.invalidate();
  }
  const same = at && hovered && at.model === hovered.model && at.patch === hovered.patch;
  if (!same && (at || hovered)) hover(stage, at);
};

const drop = (stage, event) => {
  const { state } = stage;
  if (!state.drag) return;
  const { model, from, region } = state.drag;
  state.drag = null;
  if (region) return lock(stage, { model, region, box: true });
  if (event.type === "pointercancel") return;
  const { locked } = state;
  const again = locked && !locked.box && locked.model === model && locked.patch === from;
  lock(stage, again ? null : { model, patch: from, region: regionOf(state.result.models[model], from) });
};

const turn = (stage, event, anywhere) => {
  if (!stage.state.result || event.ctrlKey || !(anywhere || event.target.closest("canvas"))) return;
  event.preventDefault();
  stage.act.go({ type: "wheel", delta: event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY });
};

const WIDEST = 280; // pixels of a tooltip, with some air

/** Moves the tooltip of what is pointed at, or has the focus, to where the page shows the whole of it. */
const holdTip = ({ target }) => {
  const tip = target.closest(".ev-tip") || target.closest(".ev-field")?.querySelector(".ev-tip");
  const room = document.documentElement.clientWidth - WIDEST;
  tip?.style.setProperty("--ev-shift", `${Math.min(0, room - tip.getBoundingClientRect().left)}px`);
};

/** Listens to the pointer, as long as the canvas lives. */
const followPointer = (stage) => {
  const { state, parts, life } = stage;
  for (const type of ["pointerover", "focusin"]) parts.frame.addEventListener(type, holdTip);
  parts.rows.addEventListener("pointerdown", (event) => press(stage, event));
  parts.rows.addEventListener("pointermove", (event) => move(stage, event));
  parts.rows.addEventListener("pointerleave", () => !state.drag && state.hovered && hover(stage, null));
  for (const type of ["pointerup", "pointercancel"]) life.listen(document, type, (event) => drop(stage, event));
  // The wheel belongs to the layers over the pictures and the slider, and to the page elsewhere.
  parts.rows.addEventListener("wheel", (event) => turn(stage, event, false), { passive: false });
  parts.track.addEventListener("wheel", (event) => turn(stage, event, true), { passive: false });
};

module.exports = { followPointer, lock };
