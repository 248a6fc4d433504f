// The runs of a page, to flip between and to pin, behind a button of the bar.
"use strict";
const { make } = require("./elements.js");

/** The button and the list that it opens: {runner, runList, runs}; hidden until there are two runs. */
const runsOf = (act) => {
  const runList = make("div", { class: "ev-menu ev-runs", role: "group", "aria-label": "Runs", hidden: true });
  const runner = make("button", {
    type: "button",
    class: "ev-button",
    "aria-expanded": "false",
    title: "Earlier results of this page ([ and ])",
    onclick: () => act.openRuns(runList.hidden),
  });
  return { runner, runList, runs: make("div", { class: "ev-saver", hidden: true }, runner, runList) };
};

const pinOf = (host, { run, name, pinned }) =>
  make("button", {
    type: "button",
    class: "ev-chip",
    "data-pin": String(run),
    "aria-pressed": String(pinned),
    "aria-label": `Pin ${name}`,
    title: pinned ? "Let it go when newer runs come" : "Keep it when newer runs come",
    text: pinned ? "pinned" : "pin",
    onclick: () => host.pin(run, !pinned),
  });

const entryOf = (host, each, shown) => {
  const { run, name, prompt, about, src } = each;
  const words = make(
    "span",
    { class: "ev-run-words" },
    make("b", { text: name }),
    make("span", { text: prompt }),
    make("span", { class: "ev-soft", text: about })
  );
  const flip = make(
    "button",
    {
      type: "button",
      class: "ev-run",
      "data-run": String(run),
      "aria-current": run === shown ? "true" : null,
      onclick: () => host.flip(run),
    },
    make("img", { src, alt: "", width: "44", height: "44" }),
    words
  );
  return make("li", {}, flip, pinOf(host, each));
};

/** Shows the runs that there are, the newest first, and which of them is on the page. */
const showRuns = ({ host, parts: { runs, runner, runList } }, list, shown) => {
  const focused = ["data-run", "data-pin"]
    .map((name) => [name, document.activeElement?.getAttribute?.(name)])
    .find(([, run]) => run);
  runs.hidden = list.length < 2;
  runner.textContent = `Runs (${list.length}) \u25be`;
  runList.replaceChildren(make("ol", {}, ...list.map((each) => entryOf(host, each, shown))));
  if (focused) runList.querySelector(`[${focused[0]}="${focused[1]}"]`)?.focus();
};

/** Opens or closes the list. */
const openRuns = ({ parts: { runner, runList } }, open) => {
  if (!open && runList.contains(document.activeElement)) runner.focus();
  runList.hidden = !open;
  runner.setAttribute("aria-expanded", String(open));
};

module.exports = { runsOf, showRuns, openRuns };
