// What the colours mean.
"use strict";
const { pairLabel } = require("../core/layers.js");
const { figures } = require("../core/numbers.js");
const { differenceLimit } = require("../core/state.js");
const { asks } = require("./answers.js");
const { make, tipped } = require("./elements.js");
const { showLimits } = require("./limits.js");

const SCALES = {
  shared: "one scale for all models and layers",
  per_row: "each model has its own scale: compare layers, not models",
  per_map: "each map has its own scale: do not compare colours",
};

const part = (more, ...children) => make("span", { class: `ev-legend-part${more}` }, ...children);
const end = (text) => make("span", { class: "ev-limit", text });
const ramp = ({ result }, name) => {
  const table = result.tables[name];
  const stops = Array.from({ length: 17 }, (_, i) => {
    const at = 3 * Math.round((i / 16) * 255);
    return `rgb(${table[at]} ${table[at + 1]} ${table[at + 2]})`;
  });
  return make("i", { class: "ev-ramp", style: `background:linear-gradient(to right, ${stops.join(", ")})` });
};

/** How the evidence is found, to choose where it can be asked for; and the next word, to be taken with the others. */
const choiceOf = (stage) => {
  const { host, state, act, parts: { methods } } = stage; // prettier-ignore
  const { word, result } = state;
  if (!asks(stage, word.model)) return [];
  const words = result.models[word.model].words;
  let next = word.last + 1;
  while (next < words.length && !words[next].trim()) next += 1;
  const more = make("button", {
    type: "button", class: "ev-chip", text: "+ next word", title: "Also of the next word (Shift and a click on a word)",
    onclick: () => act.extend(word.model, next),
  }); // prettier-ignore
  methods.replaceChildren(...(host.methods || []).map(([value, text]) => make("option", { value, text })));
  methods.value = word.method || host.methods?.[0][0];
  return [...(next < words.length ? [more] : []), ...(host.methods ? [methods] : [])];
};

const wordParts = (stage) => {
  const { state, act, parts } = stage;
  const { word } = state;
  const choice = choiceOf(stage);
  const said = choice.includes(parts.methods) ? [] : [make("span", { text: word.note })];
  const drop = make("button", {
    type: "button",
    class: "ev-chip",
    text: `\u201c${word.text}\u201d \u2715`,
    title: "Back to the maps",
    onclick: () => act.forget(),
  });
  const head = part("", make("b", { text: "Evidence for" }), drop, ...choice);
  if (!word.values.some(Boolean))
    return [head, make("span", { class: "ev-legend-part ev-soft", text: word.note || "computing\u2026" })];
  const ends = [-word.limit, word.limit].map((limit) => figures(limit));
  return [
    head,
    part("", make("span", { text: ends[0] }), ramp(state, "RdBu"), make("span", { text: `${ends[1]} nats` })),
    make("span", {
      class: word.negligible ? "ev-legend-part ev-warn" : "ev-legend-part",
      "data-share": "",
      text: word.meaning,
    }),
    part(" ev-soft", ...said, tipped(word.scores, word.help)),
    make("span", {
      class: `ev-legend-part ${word.weak ? "ev-warn" : "ev-soft"}`,
      "data-judged": "",
      text: word.judged,
    }),
  ];
};

const mapParts = (state) => {
  const { result, view } = state;
  const kind = result.kinds.find((each) => each.id === view.kind);
  const fixed = Array.isArray(view.scale);
  const shared = fixed || view.scale === "shared";
  const limits = fixed ? view.scale : result.models[0].maps[view.kind].limits.shared;
  const ends = shared ? limits.map((limit) => figures(limit)) : ["low", "high"];
  return [
    part("", end(ends[0]), ramp(state, view.colours), end(ends[1]), tipped(kind.label, kind.help)),
    make("span", {
      class: `ev-legend-part ${shared ? "ev-soft" : "ev-warn"}`,
      "data-scale": "",
      text: SCALES[view.scale] || "fixed scale",
    }),
  ];
};

/** Fills the menu of the pairs that can be subtracted, and sets it to the one that is. */
const fillPairs = ({ result: { models }, view }, pairs) => {
  const ends = models.map((_, index) => index);
  const found = ends.flatMap((first) => ends.filter((second) => second !== first).map((second) => [first, second]));
  pairs.replaceChildren(...found.map((pair) => make("option", { value: pair.join(), text: pairLabel(pair) })));
  pairs.value = view.pair.join();
  return pairs;
};

const differenceParts = (state, { pairs }) => {
  const limit = differenceLimit(state);
  if (state.result.models.length < 2) return [];
  const said = limit
    ? [end(figures(-limit)), ramp(state, "RdBu"), end(figures(limit))]
    : [make("span", { class: "ev-soft", text: "none: they have other patches or layers" })];
  return [part(" ev-end", fillPairs(state, pairs), ...said)];
};

/** The legend of the maps, or of a word's evidence, and of the difference. */
const showLegend = (stage) => {
  const { state, parts } = stage;
  const held = [parts.pairs, parts.methods].find((each) => each === document.activeElement);
  const shown = state.word ? wordParts(stage) : mapParts(state);
  // Beside the evidence's colours, before what is said of it, which fills a line of its own.
  shown.splice(state.word ? 2 : shown.length, 0, ...differenceParts(state, parts));
  parts.legend.replaceChildren(...shown);
  held?.focus();
  showLimits({ state, parts });
  const caption = state.word?.values.some(Boolean) ? "evidence" : "highlight";
  for (const tip of parts.rows.querySelectorAll("[data-paint=highlight] + figcaption .ev-tip"))
    tip.firstChild.data = caption;
};

module.exports = { showLegend };
