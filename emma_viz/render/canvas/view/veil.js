// What lies over the pictures while there is no result to see: a hint, progress, a failure.
"use strict";
const { showAnswers } = require("./answers.js");
const { make } = require("./elements.js");
const { showBlanks } = require("./rows.js");

/** Progress: {message, done, total, models: [{name, answer, busy}]}. */
const showBusy = (stage, { message, done, total, models }) => {
  const { state, parts } = stage;
  parts.frame.dataset.state = "busy";
  parts.frame.classList.toggle("ev-first", !state.result);
  const share = total ? Math.min(done / total, 1) : null;
  const fill = make("i", { style: share === null ? null : `width:${100 * share}%` });
  const line = make("div", { class: "ev-progress" + (share === null ? " ev-unknown" : "") }, fill);
  parts.veil.replaceChildren(make("div", { class: "ev-note" }, make("b", { text: message }), line));
  if (!models || !models.length) return;
  showAnswers(stage, models, true);
  const names = models.map((model) => model.name);
  if (!state.result && parts.rows.dataset.blank !== names.join()) showBlanks(stage, names);
};

/** A sentence that says why there is no result. */
const showFailure = (stage, message) => {
  const { state, parts } = stage;
  parts.frame.dataset.state = state.result ? "result" : "error";
  const text = state.result ? "Back to the last result" : "Close";
  const drop = make("button", { type: "button", class: "ev-button", text, onclick: () => showCalm(stage) });
  const title = make("b", { text: "That did not work" });
  parts.veil.replaceChildren(
    make("div", { class: "ev-note ev-error", role: "alert" }, title, make("p", { text: message }), drop)
  );
  parts.frame.dataset.failed = "";
  if (state.result) showAnswers(stage, state.result.models, false);
};

/** What can be done, before there is a result: a title, and lines that are numbered when they are several. */
const showEmpty = ({ parts }, text) => {
  parts.frame.dataset.state = "empty";
  const [title, ...lines] = text || ["Bring an image, or take an example, and press Run."];
  const list =
    lines.length > 1
      ? make("ol", {}, ...lines.map((line) => make("li", { text: line })))
      : make("p", { text: lines[0] || "" });
  parts.veil.replaceChildren(make("div", { class: "ev-note" }, make("b", { text: title }), list));
};

/** The last result again, or the hint where there is none. */
const showCalm = (stage) => {
  const { host, state, parts } = stage;
  delete parts.frame.dataset.failed;
  parts.veil.replaceChildren();
  if (!state.result) return showEmpty(stage, host.hint);
  parts.frame.dataset.state = "result";
  showAnswers(stage, state.result.models, false);
};

module.exports = { showBusy, showFailure, showEmpty, showCalm };
