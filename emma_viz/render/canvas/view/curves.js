// The charts below the rows: how much can be decoded at each layer, and how alike the maps are.
"use strict";
const { stepLabels } = require("../core/layers.js");
const { fidelityLines, retentionLines } = require("../core/lines.js");

/** The curves of the result, and of the kind of map that is shown. */
const showCurves = ({ state, parts }) => {
  const labels = stepLabels(state.result.models);
  parts.retention.set({ ...retentionLines(state), labels });
  const fidelity = fidelityLines(state);
  parts.fidelityBox.classList.toggle("ev-undefined", !fidelity.known);
  parts.fidelity.set({ ...fidelity, labels });
};

module.exports = { showCurves };
