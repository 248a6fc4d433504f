// Layers, the slider over them, and the curves along them.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

test("models of one depth move layer by layer, others by depth", () => {
  assert.deepEqual(
    core.stepsOf([
      { layers: [0, 1, 2], n_layer: 3 },
      { layers: [0, 1, 2], n_layer: 3 },
    ]),
    [
      [0, 0],
      [1, 1],
      [2, 2],
    ]
  );
  assert.deepEqual(
    core.stepsOf([
      { layers: [0, 1, 2, 3, 4], n_layer: 5 },
      { layers: [0, 1, 2], n_layer: 3 },
    ]),
    [
      [0, 0],
      [1, 1],
      [2, 1],
      [3, 2],
      [4, 2],
    ]
  );
  assert.deepEqual(core.stepsOf([{ layers: [7], n_layer: 8 }]), [[0]]);
  assert.deepEqual(
    core.stepsOf([
      { layers: [-1, 0, 1, 2], n_layer: 3 },
      { layers: [0, 1, 2], n_layer: 3 },
    ]),
    [
      [0, 0],
      [1, 0],
      [2, 1],
      [3, 2],
    ],
    "the same layer, where one lacks the embedding"
  );
});

test("the slider: keys, wheel, play, limits", () => {
  let state = { step: 0, count: 12, playing: false, rest: 0 };
  const send = (event) => (state = core.scrub(state, event));
  assert.equal(send({ type: "key", key: "ArrowRight" }).step, 1);
  assert.equal(send({ type: "key", key: "End" }).step, 11);
  assert.equal(send({ type: "key", key: "ArrowUp" }).step, 11);
  assert.equal(send({ type: "key", key: "Home" }).step, 0);
  assert.equal(send({ type: "move", by: -3 }).step, 0);
  const before = state;
  assert.equal(send({ type: "key", key: "x" }), before);
  // A notch of a mouse is one step; small movements of a touch pad add up.
  assert.equal(send({ type: "wheel", delta: 120 }).step, 1);
  for (const _ of [1, 2, 3]) send({ type: "wheel", delta: 20 });
  assert.equal(state.step, 2);
  assert.equal(send({ type: "tick" }).step, 2);
  assert.equal(send({ type: "key", key: " " }).playing, true);
  for (let i = 0; i < 10; i++) send({ type: "tick" });
  assert.equal(state.step, 0); // it starts again
  assert.equal(send({ type: "move", by: 1 }).playing, false);
  assert.equal(send({ type: "count", count: 1 }).step, 0);
  assert.equal(send({ type: "play" }).playing, false); // nothing to play through
});

test("a model with one layer has a value at the step of that depth alone", () => {
  const models = [
    { layers: [0, 1, 2, 3], n_layer: 4 },
    { layers: [5], n_layer: 10 },
  ];
  const steps = core.stepsOf(models);
  assert.deepEqual(core.alongSteps([0.1, null, 0.3, 0.4], models, steps, 0), [0.1, NaN, 0.3, 0.4]);
  assert.deepEqual(core.alongSteps([0.7], models, steps, 1), [NaN, NaN, 0.7, NaN]);
  assert.deepEqual(core.stepLabels([{ layers: [7] }, { layers: [-1, 0, 4] }]), ["e", "0", "4"]);
});

test("layers that were left out shift nothing: a model stands at the nearest layer, its values where they were found", () => {
  const models = [
    { layers: [-1, 0, 1, 2, 3, 4, 5, 6, 7], n_layer: 8 },
    { layers: [0, 6, 7], n_layer: 8 },
  ];
  const steps = core.stepsOf(models);
  assert.deepEqual(
    steps.map(([first, second]) => [models[0].layers[first], models[1].layers[second]]),
    [
      [-1, 0],
      [0, 0],
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 6],
      [5, 6],
      [6, 6],
      [7, 7],
    ]
  );
  const values = core.alongSteps([0.9, 0.5, 0.4], models, steps, 1);
  assert.deepEqual(values, [NaN, 0.9, NaN, NaN, NaN, NaN, NaN, 0.5, 0.4]);
});

const model = (name, r2, correlation, held) => ({
  name, grid: [1, 2], spans: [[[0, 0.5], [0.5, 1]], [[0], [1]]], layers: [0, 1], n_layer: 2, scores: { r2 }, lens_quality: held.map((each) => each && { r2: each }),
  maps: { error: { correlation, values: Float32Array.from([1, 3, 5, 7]), true: Float32Array.from([2, 4]) } },
}); // prettier-ignore
const state = (models) => ({
  result: { models },
  steps: [
    [0, 0],
    [1, 1],
  ],
  view: { kind: "error" },
});

test("curves hold each model's values, and the lens's own where it was measured", () => {
  const shown = state([
    model("a", [0.5, -3], [null, 0.2], [null, 0.4]),
    model("b", [0.1, 0.2], [-0.5, 0.1], [null, null]),
  ]);
  const { lines, low, high } = core.retentionLines(shown);
  assert.deepEqual(
    lines.map((line) => [line.short, line.dash, line.values]),
    [
      ["A", undefined, [0.5, -3]],
      ["A held out", "dotted", [NaN, 0.4]],
      ["B", undefined, [0.1, 0.2]],
    ]
  );
  assert.deepEqual([low, high], [-1, 1]); // what lies deeper is drawn on the edge
  const fidelity = core.fidelityLines(shown);
  assert.deepEqual([fidelity.low, fidelity.known, fidelity.lines[0].values], [-0.5, true, [NaN, 0.2]]);
  assert.equal(core.fidelityLines(state([model("a", [0, 0], [null, null], [null, null])])).known, false);
});

test("the path of a place is its mean at each layer, beside the true one", () => {
  const shown = state([model("a", [], [], []), model("b", [], [], [])]);
  const chosen = { model: 0, region: { top: 0, left: 0, bottom: 0, right: 1 } };
  assert.deepEqual(
    core.pathLines(shown, chosen).map((line) => [line.short, line.values]),
    [
      ["A", [2, 6]],
      ["true", [3, 3]],
      ["B", [2, 6]],
    ]
  );
});

test("a chart's range holds every value, and its axes go there and back", () => {
  assert.deepEqual(core.rangeOf({ lines: [{ values: [0.2, NaN, 3] }] }), { low: 0, high: 3, ticks: [3, 0, 1.5] });
  assert.deepEqual(core.rangeOf({ lines: [{ values: [-0.2] }], low: -1, high: 1 }).ticks, [1, 0, -1]);
  const axes = core.axesOf({ count: 5, low: 0, high: 1 }, 242, 126);
  assert.deepEqual([0, 1, 4].map(axes.x), [34, 84, 234]);
  assert.deepEqual([1, 0, -9].map(axes.y), [9, 109, 109]);
  assert.deepEqual([0, 34 / 242, 90 / 242, 1].map(axes.stepAt), [0, 0, 1, 4]);
  assert.equal(core.axesOf({ count: 1, low: 0, high: 0 }, 242, 126).stepAt(0.9), 0);
});
