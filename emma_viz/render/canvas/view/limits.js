// Limits of the colours that are typed, with a histogram of what they cut off.
"use strict";
const { spanOf, shares } = require("../core/histogram.js");
const { figures, percent } = require("../core/numbers.js");
const { make, svg } = require("./elements.js");

const BINS = 48;

const input = (end, label, act) => {
  const box = make("input", { type: "text", inputmode: "decimal", size: "7", "data-limit": end, "aria-label": label });
  box.addEventListener("change", act);
  return box;
};

/** Takes what was typed, if it is two numbers with the smaller first; marks what is not. */
const take = ({ low, high, limits }, act) => {
  const ends = [low, high].map((box) => Number(box.value.trim().replace("\u2212", "-") || NaN));
  const sound = ends.every(Number.isFinite) && ends[0] < ends[1];
  for (const box of [low, high]) box.setAttribute("aria-invalid", String(!sound));
  limits.classList.toggle("ev-unsound", !sound);
  if (sound) act.set({ scale: ends });
};

/** The two inputs and the histogram, which are shown while limits are typed: {limits, low, high, bars, cut}. */
const typedOf = (act) => {
  const own = {};
  const changed = () => take(own, act);
  own.low = input("low", "Lowest value of the colours", changed);
  own.high = input("high", "Highest value of the colours", changed);
  own.bars = svg("svg", { class: "ev-bars", viewBox: `0 0 ${BINS} 1`, preserveAspectRatio: "none", role: "img" });
  own.cut = make("span", { class: "ev-soft" });
  own.limits = make("span", { class: "ev-limits", hidden: true }, own.low, own.bars, own.high, own.cut);
  return own;
};

/** Draws the histogram of all layers and models, square roots of shares, faint beyond the limits; says how much that is. */
const showLimits = ({ state: { result, view }, parts }) => {
  const typed = Array.isArray(view.scale);
  parts.limits.hidden = !typed;
  if (!typed) return;
  const [low, high] = view.scale;
  const values = result.models.map((model) => model.maps[view.kind].values);
  const range = spanOf(values, view.scale);
  const found = shares(values, range, view.scale, BINS);
  parts.low.value = String(low);
  parts.high.value = String(high);
  const paths = ["", ""]; // within the limits, and beyond them
  found.bins.forEach((share, bin) => {
    const middle = range[0] + ((bin + 0.5) / BINS) * (range[1] - range[0]);
    if (share) paths[Number(middle < low || middle > high)] += `M${bin} 1V${1 - Math.sqrt(share)}h1V1z`;
  });
  parts.bars.replaceChildren(...paths.map((d, i) => svg("path", { d, opacity: i ? "0.35" : "1" })));
  const beyond = `${percent(found.below)} below, ${percent(found.above)} above`;
  parts.cut.textContent = beyond;
  parts.bars.setAttribute("aria-label", `Values from ${figures(range[0])} to ${figures(range[1])}: ${beyond}`);
};

module.exports = { typedOf, showLimits };
