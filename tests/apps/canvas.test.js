// Run by tests/apps/test_canvas.py, or by hand: node --test tests/apps/canvas.test.js
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const path = require("node:path");
const { core } = require(path.join(__dirname, "../../emma_viz/render/canvas/canvas.js"));

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const floats = (values) => base64(new Uint8Array(Float32Array.from(values).buffer));
const grey = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
const square = { grid: [4, 4], extent: [0, 0, 1, 1] };

test("bytes and floats survive base64", () => {
  assert.deepEqual([...core.bytesOf(base64([0, 1, 254, 255]))], [0, 1, 254, 255]);
  assert.deepEqual([...core.floatsOf(floats([0.1, -3, NaN]))], [Math.fround(0.1), -3, NaN]);
});

test("normalise clips, keeps NaN, and splits a scale without extent", () => {
  assert.equal(core.normalise(3, 2, 4), 0.5);
  assert.equal(core.normalise(9, 2, 4), 1);
  assert.equal(core.normalise(-9, 2, 4), 0);
  assert.ok(Number.isNaN(core.normalise(NaN, 0, 1)));
  assert.deepEqual([1, 2, 3].map((v) => core.normalise(v, 2, 2)), [0, 0, 1]);
});

test("paint takes the nearest entry of the table and leaves NaN transparent", () => {
  const pixels = core.paint([0, 0.5, 1, NaN], [0, 1], grey);
  assert.deepEqual([...pixels], [0, 0, 0, 255, 128, 128, 128, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
});

test("a tint is transparent where the map is low, and its strength can be set", () => {
  const pixels = core.tint([0, 0.5, 1, NaN], [0, 1], grey, { strength: 0.8, rise: 1 });
  assert.deepEqual([3, 7, 11, 15].map((i) => pixels[i]), [0, 102, 204, 0]);
  assert.equal(core.tint([1], [0, 1], grey, { strength: 0, rise: 0.8 })[3], 0);
});

test("fade greys and lightens in place", () => {
  const pixels = core.fade(Uint8ClampedArray.from([255, 0, 0, 255]), 1, 0);
  assert.deepEqual([...pixels], [76, 76, 76, 255]);
  assert.deepEqual([...core.fade(Uint8ClampedArray.from([0, 0, 0, 255]), 0, 0.2)], [51, 51, 51, 255]);
});

test("differences are of single precision, and of one layer of both", () => {
  const values = [Float32Array.from([0.1, 5, 1, 1]), Float32Array.from([0.3, 2, 0, 0])];
  const [first, second] = values.map((each, i) => ({ grid: [1, 2], layers: [i, 1], maps: { error: { values: each } } }));
  assert.deepEqual([...core.subtract(...values)].slice(0, 2), [Math.fround(Math.fround(0.1) - Math.fround(0.3)), 3]);
  assert.deepEqual([...core.differenceAt([first, second], "error", [1, 1])], [1, 1]);
  assert.equal(core.differenceAt([first, second], "error", [0, 0]), null);
  assert.equal(core.percentile([1, 2, 3, 4], 50), 2.5);
  assert.equal(core.percentile([NaN, 7], 98), 7);
  assert.ok(Number.isNaN(core.percentile([NaN], 98)));
});

test("a point hits the patch whose box holds it, in cropped and letterboxed grids too", () => {
  assert.equal(core.patchAt(square, 0, 0), 0);
  assert.equal(core.patchAt(square, 0.99, 0.99), 15);
  assert.equal(core.patchAt(square, 0.25, 0), 1);
  assert.equal(core.patchAt(square, 1, 0.5), null);
  const cropped = { grid: [2, 2], extent: [0.25, 0, 0.75, 1] };
  assert.equal(core.patchAt(cropped, 0.2, 0.5), null);
  assert.equal(core.patchAt(cropped, 0.6, 0.6), 3);
  const padded = { grid: [2, 2], extent: [0, -0.5, 1, 1.5] };
  assert.equal(core.patchAt(padded, 0.1, 0.4), 0);
  assert.equal(core.patchAt(padded, 0.1, 0.6), 2);
});

test("a box between two patches, its patches, its place, and the same place on another grid", () => {
  const region = core.regionOf(square, 9, 3);
  assert.deepEqual(region, { top: 0, left: 1, bottom: 2, right: 3 });
  assert.deepEqual(core.patchesIn(square, { top: 1, left: 2, bottom: 2, right: 3 }), [6, 7, 10, 11]);
  assert.deepEqual(core.boxOf(square, { top: 1, left: 2, bottom: 2, right: 3 }), { x: 0.5, y: 0.25, width: 0.5, height: 0.5 });
  const fine = { grid: [8, 8], extent: [0, 0, 1, 1] };
  assert.deepEqual(core.translate(core.regionOf(fine, 63), fine, square), { top: 3, left: 3, bottom: 3, right: 3 });
  const left = { grid: [2, 2], extent: [0, 0, 0.5, 1] };
  assert.equal(core.translate(core.regionOf(square, 3), square, left), null);
});

test("patches move by keys and stop at the edge", () => {
  assert.equal(core.movePatch(square, 5, 1, 0), 6);
  assert.equal(core.movePatch(square, 5, 0, -1), 1);
  assert.equal(core.movePatch(square, 3, 1, -1), 3);
});

test("cells are as large as their room allows, in as many lines as that takes", () => {
  const wide = core.fitCells(14, 280, 120, 2 / 3);
  assert.deepEqual([wide.lines, wide.perLine], [3, 5]);
  assert.ok(wide.perLine * wide.side <= 280 && wide.lines * wide.high <= 120 + 1e-9);
  assert.deepEqual(core.fitCells(2, 100, 1000, 1), { lines: 2, perLine: 1, side: 100, high: 100 });
  assert.deepEqual(core.fitCells(2, 100, 30, 1), { lines: 1, perLine: 2, side: 30, high: 30 });
});

test("a sheet's map is found by its address", () => {
  const maps = [{ values: floats([1]), limits: [0, 1] }, { values: floats([2, NaN]), limits: [0, 3] }];
  const data = { images: [{ scopes: [{ grid: [1, 1], maps: [] }, { grid: [1, 2], extent: [0, 0, 1, 1], table: "map", maps }] }] };
  const found = core.sheetMap(data, "0/1/1");
  assert.deepEqual([[...found.values], found.limits, found.grid, found.table], [[2, NaN], [0, 3], [1, 2], "map"]);
  assert.deepEqual([...core.paint(found.values, found.limits, grey)].slice(4), [0, 0, 0, 0]);
  assert.equal(core.nearest([0, 4, 8], 5.9), 4);
  assert.equal(core.nearest([8, 0], 3), 0);
});

test("models of one depth move layer by layer, others by depth", () => {
  assert.deepEqual(core.stepsOf([[0, 1, 2], [0, 1, 2]]), [[0, 0], [1, 1], [2, 2]]);
  assert.deepEqual(core.stepsOf([[0, 1, 2, 3, 4], [0, 1, 2]]), [[0, 0], [1, 1], [2, 1], [3, 2], [4, 2]]);
  assert.deepEqual(core.stepsOf([[7]]), [[0]]);
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

test("links carry a view there and back, and ignore what they do not know", () => {
  const view = { image: "ab12", models: ["a", "b,c"].slice(0, 1), prompt: "Is there a cup? 50 % & more=so", layer: -1, smooth: null, lens: "", site: [] };
  const link = core.toLink(view);
  assert.equal(link, "image=ab12&models=a&prompt=Is%20there%20a%20cup%3F%2050%20%25%20%26%20more%3Dso&layer=-1");
  assert.deepEqual(core.fromLink("#" + link), { image: "ab12", models: "a", prompt: view.prompt, layer: "-1" });
  assert.deepEqual(core.fromLink("__proto__=1&layer=%E0%A4%A&x=2&patch=7"), { patch: "7" });
});

const payload = () => ({
  schema: 1,
  tables: { viridis: "000000ffffff" },
  models: [
    {
      grid: [1, 2], extent: [0, 0, 1, 1], layers: [0, 1], decoded: { encoding: "raw", data: base64([1, 2, 3]) }, truth: base64([4]),
      maps: { distance: { values: floats([1, 2, 3, NaN]), true: floats([5, 6]), limits: { shared: [0, 9], per_map: [[1, 2], [3, 3]] } } },
    },
  ],
}); // prettier-ignore

test("a payload unpacks to numbers, and its maps have limits for each scale", () => {
  const { models, tables } = core.unpack(payload());
  assert.deepEqual([...tables.viridis], [0, 0, 0, 255, 255, 255]);
  assert.deepEqual([...core.mapOf(models[0], "distance", 1)], [3, NaN]);
  assert.deepEqual(core.limitsOf(models[0], "distance", 1, "shared"), [0, 9]);
  assert.deepEqual(core.limitsOf(models[0], "distance", 1, "per_map"), [3, 3]);
  assert.deepEqual(core.limitsOf(models[0], "distance", 1, [4, 5]), [4, 5]);
  assert.deepEqual(core.trajectory(models[0], "distance", [0, 1]), [1.5, 3]);
  assert.throws(() => core.unpack({ ...payload(), schema: 2 }), /schema 1/);
});

test("numbers are written short, with a real minus sign", () => {
  assert.equal(core.figures(-0.012345), "−0.0123");
  assert.equal(core.figures(-0.00000174), "−1.74e-6");
  assert.equal(core.figures(0.000123), "0.000123");
  assert.equal(core.figures(0), "0");
  assert.equal(core.figures(null), "–");
  assert.deepEqual([0, 0.001, 0.006, 0.42].map(core.percent), ["0%", "<1%", "1%", "42%"]);
  assert.equal(core.fixed(0.854), "0.85");
  assert.equal(core.fixed(NaN), "–");
  assert.equal(core.layerLabel(-1), "embedding");
});

test("a word's evidence has a scale that a person can judge", () => {
  const tiny = core.evidenceScale([[1e-5, 2e-6], []], [-0.0015, -1]);
  assert.ok(tiny.negligible);
  assert.match(tiny.meaning, /^negligible/);
  assert.ok(tiny.limit >= 0.05); // 1e-5 nats are drawn pale
  const strong = core.evidenceScale([[0.001], [2, 0.1]], [-9, -4]);
  assert.ok(!strong.negligible);
  assert.match(strong.meaning, /at most 2 nats for a token, 50 % of the word's log-probability/);
  assert.ok(core.evidenceScale([[0.02]], [-8]).negligible); // less than 1 % of what the word has
  assert.ok(core.evidenceScale([[]], [0]).negligible);
});
