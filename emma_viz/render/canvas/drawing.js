// One drawing a frame of what has changed, and the slider that plays through the layers.
"use strict";
const { layerLabel } = require("./core/layers.js");
const { toLink } = require("./core/links.js");
const { scrub } = require("./core/scrubber.js");
const { currentLayer, linkedView } = require("./core/state.js");
const { showInspected } = require("./view/inspector.js");
const { paintPanels } = require("./view/panels.js");
const { showNumbers } = require("./view/readouts.js");

const FRAMES = 8; // layers a second while playing
const REST = 150; // milliseconds without a change until a view is at rest

/** The view as a link has it, with what the page adds. */
const linkOf = ({ host, state }) => ({ ...(host.context ? host.context() : {}), ...linkedView(state) });

/** Tells the page of the view when it has come to rest: an address that changed with every frame would slow it. */
const note = (stage) => {
  const { host, life, state } = stage;
  stage.timers.noting?.();
  if (!host.onview || state.drag) return;
  stage.timers.noting = life.after(REST, () => {
    const link = toLink(linkOf(stage));
    if (link === stage.state.noted) return;
    stage.state.noted = link;
    host.onview(link);
  });
};

const render = (stage) => {
  const { state, parts } = stage;
  const { step } = state.scrubber;
  paintPanels(stage);
  showNumbers(stage);
  parts.slider.value = String(step);
  parts.slider.setAttribute("aria-valuetext", layerLabel(currentLayer(state)));
  parts.retention.step(step);
  parts.fidelity.step(step);
  showInspected(stage);
  state.changed = "step";
  state.stats.draws += 1;
  state.stats.steps.add(step);
  parts.frame.dataset.step = String(step);
  note(stage);
};

/** Draws at the next frame: everything, or after a "step" what a step changes. */
const invalidate = (stage, change = "all") => {
  const { life, state, parts } = stage;
  state.changed = state.changed === "all" ? "all" : change;
  if (state.pending) return;
  state.pending = true;
  life.frame(() => {
    state.pending = false;
    if (state.result && parts.frame.isConnected) render(stage);
  });
};

const beat = (stage) => {
  let last = performance.now();
  const frameAt = (now) => {
    if (!stage.state.scrubber.playing) return;
    if (now - last >= 1000 / FRAMES) {
      last = now;
      apply(stage, scrub(stage.state.scrubber, { type: "tick" }));
    }
    stage.timers.beating = stage.life.frame(frameAt);
  };
  stage.timers.beating?.(); // of a pause that was shorter than a frame
  stage.timers.beating = stage.life.frame(frameAt);
};

/** Moves the slider to another state of it, and plays if that plays. */
const apply = (stage, scrubber) => {
  const { state, parts } = stage;
  const begins = scrubber.playing && !state.scrubber.playing;
  state.scrubber = scrubber;
  parts.play.textContent = scrubber.playing ? "\u275a\u275a" : "\u25b6\ufe0e";
  parts.play.setAttribute("aria-label", scrubber.playing ? "Pause" : "Play");
  invalidate(stage, "step");
  if (begins) beat(stage);
};

module.exports = { apply, invalidate, linkOf };
