// Statistics of values, and how numbers are written.
"use strict";

/** First minus second in single precision, as numpy subtracts float32. */
const subtract = (first, second) => first.map((value, i) => Math.fround(value - second[i]));

const mean = (values) => {
  const finite = values.filter(Number.isFinite);
  return finite.length ? finite.reduce((a, b) => a + b, 0) / finite.length : NaN;
};

const minus = (text) => text.replaceAll("-", "\u2212");
/** A number to some digits, and what is smaller than a ten-thousandth as a power of ten, as Python's `g` prints it. */
const figures = (value, digits = 3) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  const short = Number(value.toPrecision(digits));
  return minus(short && Math.abs(short) < 1e-4 ? short.toExponential() : short.toString());
};
const fixed = (value, digits = 2) =>
  value === null || value === undefined || !Number.isFinite(value) ? "\u2013" : minus(value.toFixed(digits));

const percent = (share) => (share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`);

/** The value that lies nearest to a wanted one. */
const nearest = (values, wanted) =>
  values.reduce((best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best));

module.exports = { subtract, mean, figures, fixed, percent, nearest };
