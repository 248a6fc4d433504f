// What Python sends.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const floats = (values) => base64(new Uint8Array(Float32Array.from(values).buffer));
const grey = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));

const payload = () => ({
  schema: 3,
  tables: { viridis: "000000ffffff" },
  models: [
    {
      grid: [1, 2], spans: [[[0, 0.5], [0.5, 1]], [[0], [1]]], layers: [0, 1], decoded: { encoding: "raw", data: base64([1, 2, 3]) }, truth: base64([4]),
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
  assert.throws(() => core.unpack({ ...payload(), schema: 1 }), /schema 3/);
});

test("differences are of single precision, and of one layer of both", () => {
  const values = [Float32Array.from([0.1, 5, 1, 1]), Float32Array.from([0.3, 2, 0, 0])];
  const [first, second] = values.map((each, i) => ({
    grid: [1, 2],
    layers: [i, 1],
    maps: { error: { values: each } },
  }));
  assert.deepEqual([...core.subtract(...values)].slice(0, 2), [Math.fround(Math.fround(0.1) - Math.fround(0.3)), 3]);
  assert.deepEqual([...core.differenceAt([first, second], "error", [1, 1])], [1, 1]);
  assert.equal(core.differenceAt([first, second], "error", [0, 0]), null);
});

test("a sheet's map is found by its address", () => {
  const maps = [
    { values: floats([1]), limits: [0, 1] },
    { values: floats([2, NaN]), limits: [0, 3] },
  ];
  const data = {
    images: [
      {
        scopes: [
          { grid: [1, 1], maps: [] },
          { grid: [1, 2], spans: [[[0, 0.5], [0.5, 1]], [[0], [1]]], table: "map", maps },
        ],
      },
    ],
  };
  const found = core.sheetMap(data, "0/1/1");
  assert.deepEqual([[...found.values], found.limits, found.grid, found.table], [[2, NaN], [0, 3], [1, 2], "map"]);
  assert.deepEqual([...core.paint(found.values, found.limits, grey)].slice(4), [0, 0, 0, 0]);
  assert.equal(core.nearest([0, 4, 8], 5.9), 4);
  assert.equal(core.nearest([8, 0], 3), 0);
});
