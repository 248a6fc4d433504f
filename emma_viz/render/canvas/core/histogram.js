// How often values occur, for limits that are typed.
"use strict";

/** From the least to the largest finite value, and not less than the limits. */
const spanOf = (arrays, [low, high]) => {
  let [least, most] = [low, high];
  for (const values of arrays)
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  return [least, most];
};

/** Values in bins over a range, as shares of the fullest; and the shares of all values that lie beyond the limits. */
const shares = (arrays, [least, most], [low, high], count) => {
  const bins = new Float64Array(count);
  const found = { all: 0, below: 0, above: 0 };
  for (const values of arrays)
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      found.all += 1;
      if (value < low) found.below += 1;
      if (value > high) found.above += 1;
      bins[Math.min(Math.floor((count * (value - least)) / (most - least)), count - 1)] += 1;
    }
  const fullest = Math.max(...bins, 1);
  const all = Math.max(found.all, 1);
  return { bins: [...bins].map((each) => each / fullest), below: found.below / all, above: found.above / all };
};

module.exports = { spanOf, shares };
