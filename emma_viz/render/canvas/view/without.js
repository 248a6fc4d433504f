// What the chosen words lose without the place that is kept, beside other places of its shape.
"use strict";
const { figures } = require("../core/numbers.js");
const { dot, make, svg } = require("./elements.js");
const { TIPS } = require("./tips.js");

const WIDE = 120; // units of a band's drawing

/** The band of the other places, and the place's own loss as a mark. */
const bandOf = ({ fall, low, high }, [least, most]) => {
  const x = (value) => ((value - least) / (most - least || 1)) * WIDE;
  const frame = svg("svg", { class: "ev-band", viewBox: `-4 0 ${WIDE + 8} 14`, "aria-hidden": "true" });
  frame.append(
    svg("line", { x1: x(0), x2: x(0), y1: 1, y2: 13, class: "ev-grid" }),
    svg("rect", { x: x(low), y: 4, width: Math.max(x(high) - x(low), 1), height: 6 }),
    svg("circle", { cx: x(fall), cy: 7, r: 3.5 })
  );
  return frame;
};

const lineOf = (found, index, range) => {
  if (!found) return make("li", {}, dot(index), make("span", { class: "ev-soft", text: "has no such place" }));
  const loss = `${figures(found.fall, 2)} nats`;
  if (!found.others)
    return make("li", {}, dot(index), make("span", { text: `${loss}; no other place of its shape fits` }));
  const others = `${found.others} other places ${figures(found.low, 2)} to ${figures(found.high, 2)}`;
  if (found.beats === null) return make("li", {}, dot(index), make("span", { class: "ev-warn", text: `${loss}; ${others}: not judged` }));
  const verdict = found.beats ? "more than any of them" : "others lose as much";
  const text = make("span", { class: found.beats ? "" : "ev-warn", text: `${loss}; ${others}: ${verdict}` });
  return make("li", {}, dot(index), bandOf(found, range), text);
};

/** Shows what is known of it, and what it would cost to know; nothing without words and a place. */
const showWithout = ({ host, state: { word, locked, result }, act, parts }) => {
  // After the evidence, which asks the same models: of a page one thing is measured at a time.
  const there = Boolean(word?.values.some(Boolean) && locked && host.without && result.models[word.model].live);
  parts.without.hidden = !there;
  if (!there) return;
  const known = word.without?.place === locked ? word.without : null;
  if (known?.models) {
    const ends = known.models.filter(Boolean).flatMap(({ fall, low, high }) => [fall, low ?? 0, high ?? 0, 0]);
    const range = [Math.min(...ends), Math.max(...ends)];
    parts.without.replaceChildren(
      make("p", { class: "ev-soft", text: `\u201c${word.text}\u201d loses without this place:` }),
      make("ul", {}, ...known.models.map((each, index) => lineOf(each, index, range)))
    );
    return;
  }
  const text = known?.note || `what \u201c${word.text}\u201d loses without it (20 runs a model)`;
  const ask = make("button", {
    type: "button", class: "ev-chip", disabled: known?.note === "measuring\u2026", title: TIPS.without, text,
    onclick: () => act.measureWithout(),
  }); // prettier-ignore
  parts.without.replaceChildren(ask);
};

module.exports = { showWithout };
