// The scale of a word's evidence.
"use strict";
const { figures, percentile } = require("./numbers.js");

/**
 * The scale of a word's evidence. A change of 0.01 nats moves a word's chance by 1 %: less than that, or than 1 % of
 * the word's log-probability, is called negligible, and drawn pale.
 *
 * @param sizes per model, of the changes, nats; @param scores per model, the word's log-probability, nats
 */
const evidenceScale = (sizes, scores) => {
  const most = sizes.map((each) => each.reduce((best, size) => Math.max(best, size), 0));
  const at = most.indexOf(Math.max(...most));
  const whole = Math.abs(scores[at]);
  const negligible = most.every((size, i) => !(size >= Math.max(0.01, 0.01 * Math.abs(scores[i]))));
  const share = whole > 0 ? `, ${figures((100 * most[at]) / whole, 2)} % of the word's log-probability` : "";
  const limit = Math.max(percentile(sizes.flat(), 99) || 0, 0.1 * whole, 0.05);
  return {
    limit,
    negligible,
    meaning: `${negligible ? "negligible: " : ""}at most ${figures(most[at], 2)} nats for a token${share}`,
  };
};

module.exports = { evidenceScale };
