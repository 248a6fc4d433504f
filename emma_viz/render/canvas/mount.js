// The canvas on a page: its state, its parts, and what the page can do with it.
"use strict";
const { scrub } = require("./core/scrubber.js");
const { freshState } = require("./core/state.js");
const { apply, invalidate, linkOf } = require("./drawing.js");
const { followPointer, lock } = require("./gestures.js");
const { followKeys } = require("./keys.js");
const { lifetime } = require("./lifetime.js");
const { offerSaving, openMenu, say } = require("./saving.js");
const { changeView, moveUp, showResult, showView } = require("./showing.js");
const { openKeys } = require("./view/keylist.js");
const { partsOf } = require("./view/parts.js");
const { layout } = require("./view/rows.js");
const { openRuns, showRuns } = require("./view/runs.js");
const { showBusy, showCalm, showEmpty, showFailure } = require("./view/veil.js");
const { abandon, attribute, extend, forget, measureWithout } = require("./word.js");

/** What the parts of the canvas ask of one another; each is a change of the state and what it shows. */
const actionsOf = (stage) => ({
  apply: (scrubber) => apply(stage, scrubber),
  attribute: (model, index, more) => attribute(stage, model, index, more),
  extend: (model, index) => extend(stage, model, index),
  forget: () => forget(stage),
  go: (event) => apply(stage, scrub(stage.state.scrubber, event)),
  invalidate: (change) => invalidate(stage, change),
  lock: (chosen) => lock(stage, chosen),
  measureWithout: () => measureWithout(stage),
  method: (method) => {
    const { model, index, last } = stage.state.word;
    return attribute(stage, model, index, { last, method });
  },
  moveUp: (index) => moveUp(stage, index),
  openKeys: (open) => openKeys(stage, open),
  openMenu: (open) => openMenu(stage, open),
  openRuns: (open) => openRuns(stage, open),
  say: (text) => say(stage, text),
  set: (change) => changeView(stage, change),
});

const stageOf = (host) => {
  // Everything that the modules share: what the page offers, what must end, what is shown, where, and what to do.
  const stage = { host, life: lifetime(), state: freshState(), parts: null, act: null, timers: {} };
  stage.act = actionsOf(stage);
  stage.parts = partsOf(stage.act, stage.life);
  return stage;
};

/** Ends a canvas: nothing of it is left on the page, and nothing listens, waits or draws any more. */
const destroy = (stage) => {
  const { state, life, parts } = stage;
  if (life.over) return;
  abandon(stage);
  life.end();
  state.generation += 1; // what is still awaited is dropped
  Object.assign(state, { result: null, word: null, scrubber: { ...state.scrubber, playing: false } });
  delete parts.frame.emma;
  parts.frame.remove();
};

const handleOf = (stage) => ({
  /** Shows a result; `view`, of a link, is restored on it. Refuses, as a promise does, a payload that it cannot read. */
  update: (payload, view = null) => showResult(stage, payload, view),
  /** Restores a link's view of the result that is shown. */
  restore: (view) => showView(stage, view),
  /** Progress: {message, done, total, models: [{name, answer, busy}]}. */
  busy: (news) => showBusy(stage, news),
  /** A sentence that says why there is no result. */
  fail: (message) => showFailure(stage, message),
  /** A sentence above everything that stays until it is taken back with "". */
  notice(text) {
    stage.parts.notice.textContent = text;
    stage.parts.notice.hidden = !text;
  },
  /** A sentence for some seconds. */
  say: (text) => say(stage, text),
  /** The last result again, without progress or failure over it. */
  calm: () => showCalm(stage),
  /** What can be done, before there is a result: [title, line, …]. */
  empty: (text) => showEmpty(stage, text),
  /** The runs that the page can flip between: [{run, name, prompt, about, src, pinned}], and the one that is shown. */
  runs: (list, shown) => showRuns(stage, list, shown),
  destroy: () => destroy(stage),
  stats: stage.state.stats,
  get shown() { return stage.state.generation; },
  get step() { return stage.state.scrubber.step; },
  get view() { return linkOf(stage); },
  get result() { return stage.state.result; },
}); // prettier-ignore

/**
 * Puts the canvas on a page, in the place of a canvas that was mounted there.
 *
 * @param element an empty element
 * @param host what the page can do besides: `words(places)`, `attribute(model, word, {last, method})`, `save(format, view)`, each a
 *   promise; `progress()` and `cancel()` of an attribution; `flip(run)`, `pin(run, pinned)` and `step(by)` of
 *   `runs`; `mask(model, region)`, a run without a place; `methods`, [id,
 *   name] of the kinds of evidence, the first the usual one; `without(model, word, {last, row, region})`; `onview(link)`; `context()` with further fields for links;
 *   `hint`, lines for an empty canvas. What is left out is not offered.
 * @returns {update, restore, busy, fail, notice, say, calm, empty, destroy, stats, shown, step, view, result}
 */
const mount = (element, host = {}) => {
  element.querySelector(":scope > .ev")?.emma?.destroy();
  const stage = stageOf(host);
  const { parts, life } = stage;
  element.replaceChildren(parts.frame);
  followPointer(stage);
  followKeys(stage);
  offerSaving(stage);
  life.observe(new ResizeObserver(() => layout(stage)), parts.frame);
  life.observe(new MutationObserver(() => invalidate(stage)), document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });
  showEmpty(stage, host.hint);
  const handle = handleOf(stage);
  parts.frame.emma = handle; // for tests and for other scripts of the page
  return handle;
};

module.exports = { mount };
