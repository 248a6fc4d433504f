// Bytes, colours, numbers.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const floats = (values) => base64(new Uint8Array(Float32Array.from(values).buffer));
const grey = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));

test("bytes and floats survive base64", () => {
  assert.deepEqual([...core.bytesOf(base64([0, 1, 254, 255]))], [0, 1, 254, 255]);
  assert.deepEqual([...core.floatsOf(floats([0.1, -3, NaN]))], [Math.fround(0.1), -3, NaN]);
});

test("normalise clips, keeps NaN, and splits a scale without extent", () => {
  assert.equal(core.normalise(3, 2, 4), 0.5);
  assert.equal(core.normalise(9, 2, 4), 1);
  assert.equal(core.normalise(-9, 2, 4), 0);
  assert.ok(Number.isNaN(core.normalise(NaN, 0, 1)));
  assert.deepEqual(
    [1, 2, 3].map((v) => core.normalise(v, 2, 2)),
    [0, 0, 1]
  );
});

test("paint takes the nearest entry of the table and leaves NaN transparent", () => {
  const pixels = core.paint([0, 0.5, 1, NaN], [0, 1], grey);
  assert.deepEqual([...pixels], [0, 0, 0, 255, 128, 128, 128, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
});

test("a tint is transparent where the map is low, and its strength can be set", () => {
  const pixels = core.tint([0, 0.5, 1, NaN], [0, 1], grey, { strength: 0.8, rise: 1 });
  assert.deepEqual(
    [3, 7, 11, 15].map((i) => pixels[i]),
    [0, 102, 204, 0]
  );
  assert.equal(core.tint([1], [0, 1], grey, { strength: 0, rise: 0.8 })[3], 0);
});

test("fade greys and lightens in place", () => {
  const pixels = core.fade(Uint8ClampedArray.from([255, 0, 0, 255]), 1, 0);
  assert.deepEqual([...pixels], [76, 76, 76, 255]);
  assert.deepEqual([...core.fade(Uint8ClampedArray.from([0, 0, 0, 255]), 0, 0.2)], [51, 51, 51, 255]);
});

test("numbers are written short, with a real minus sign", () => {
  assert.equal(core.figures(-0.012345), "−0.0123");
  assert.equal(core.figures(-0.00000174), "−1.74e−6");
  assert.equal(core.figures(0.000123), "0.000123");
  assert.equal(core.figures(0), "0");
  assert.equal(core.figures(null), "–");
  assert.deepEqual([0, 0.001, 0.006, 0.42].map(core.percent), ["0%", "<1%", "1%", "42%"]);
  assert.equal(core.fixed(0.854), "0.85");
  assert.equal(core.fixed(NaN), "–");
  assert.equal(core.layerLabel(-1), "embedding");
});

test("a histogram has every finite value once, and says what lies beyond the limits", () => {
  const values = [Float32Array.from([0, 1, 1, NaN]), Float32Array.from([4, -2])];
  const range = core.spanOf(values, [0, 2]);
  assert.deepEqual(range, [-2, 4]);
  const found = core.shares(values, range, [0, 2], 6);
  assert.deepEqual(found.bins, [0.5, 0, 0.5, 1, 0, 0.5]);
  assert.deepEqual([found.below, found.above], [0.2, 0.2]);
  assert.deepEqual(core.spanOf([[]], [0, 1]), [0, 1]);
  assert.deepEqual(core.shares([[]], [0, 1], [0, 1], 2), { bins: [0, 0], below: 0, above: 0 });
});
