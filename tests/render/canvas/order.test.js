// The order of models, and pairs of them.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

const models = ["a", "b", "c"].map((name, source) => ({ name, source }));
const result = {
  models,
  differences: { "0,1": "ab", "0,2": "ac", "1,2": "bc" },
  evidence: {
    "2,5": { models: ["of a", "of b", "of c"], scores: [1, 2, 3], limit: 9 },
    "1,0,4": { models: ["a's", "b's", "c's"], scores: [4, 5, 6], limit: 8 },
  },
};

test("models are put into another order with what is said of them", () => {
  const found = core.reordered(result, [2, 0, 1]);
  assert.deepEqual(found.models.map((each) => each.name), ["c", "a", "b"]); // prettier-ignore
  assert.deepEqual(found.differences, { "1,2": "ab", "0,1": "ac", "0,2": "bc" });
  assert.deepEqual(found.evidence, {
    "0,5": { models: ["of c", "of a", "of b"], scores: [3, 1, 2], limit: 9 },
    "2,0,4": { models: ["c's", "a's", "b's"], scores: [6, 4, 5], limit: 8 },
  });
  assert.deepEqual(core.linkedOrder(found.models), [2, 0, 1]);
  assert.deepEqual(core.inOrder({ judged: ["of a", "of b", "of c"] }, found.models).judged, ["of c", "of a", "of b"]);
  assert.deepEqual(core.bySource(["of c", "of a", "of b"], found.models), ["of a", "of b", "of c"]);
  const back = core.reordered(found, core.orderOf("0,1,2", found.models));
  assert.deepEqual([back, core.linkedOrder(back.models)], [result, null]);
});

test("an order that is none is left out, and one row up is one", () => {
  for (const wrong of [undefined, "", "0,1", "0,1,1", "0,1,3", "x,1,2", "0,1,2,3"])
    assert.equal(core.orderOf(wrong, models), null, wrong);
  assert.deepEqual(core.orderOf("2,1,0", models), [2, 1, 0]);
  assert.deepEqual(core.movedUp(3, 2), [0, 2, 1]);
});

test("a pair is two of the models, in either order", () => {
  const shown = { models: [{ maps: {} }, { maps: {} }, { maps: {} }], tables: {} };
  const view = core.freshState().view;
  const pairOf = (pair) => core.lookOf(view, shown, { pair });
  assert.deepEqual(pairOf("2,0").view.pair, [2, 0]);
  for (const wrong of ["1,1", "0,3", "-1,0", "0", "0,1,2", "a,b"]) assert.deepEqual(pairOf(wrong).lost, ["pair"], wrong);
});
