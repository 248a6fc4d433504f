// Patches, and how large things are.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

const square = { grid: [4, 4], extent: [0, 0, 1, 1] };

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
  assert.deepEqual(core.boxOf(square, { top: 1, left: 2, bottom: 2, right: 3 }), {
    x: 0.5,
    y: 0.25,
    width: 0.5,
    height: 0.5,
  });
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

test("a point moves by patches, within them", () => {
  const cropped = { grid: [2, 4], extent: [0, 0.5, 1, 1] };
  assert.deepEqual(core.pointBeside(cropped, { x: 0.1, y: 0.6 }, 2, 1), { x: 0.6, y: 0.85 });
  assert.equal(core.pointBeside(cropped, { x: 0.1, y: 0.6 }, 0, -1), null);
});

test("cells are as large as their room allows, in as many lines as that takes", () => {
  const wide = core.fitCells(14, 280, 120, 2 / 3);
  assert.deepEqual([wide.lines, wide.perLine], [3, 5]);
  assert.ok(wide.perLine * wide.side <= 280 && wide.lines * wide.high <= 120 + 1e-9);
  assert.deepEqual(core.fitCells(2, 100, 1000, 1), { lines: 2, perLine: 1, side: 100, high: 100 });
  assert.deepEqual(core.fitCells(2, 100, 30, 1), { lines: 1, perLine: 2, side: 30, high: 30 });
});

test("a panel takes the room of its row, and no less than its numbers need", () => {
  const wide = core.panelSizes({ narrow: false, across: 900, room: 200, aspect: 1.5 });
  assert.deepEqual(wide, { tall: 196, wide: 294, image: [294.6666666666667, 196.44444444444446] });
  const tall = core.panelSizes({ narrow: false, across: 900, room: 120, aspect: 0.5 });
  assert.deepEqual(tall, { tall: 120, wide: 186, image: [60, 120] });
  const phone = core.panelSizes({ narrow: true, across: 360, room: 300, aspect: 1 });
  assert.deepEqual(phone, { tall: 114, wide: 114, image: [114.66666666666667, 114.66666666666667] });
  assert.equal(core.panelSizes({ narrow: false, across: 900, room: 10, aspect: 1 }).tall, 96);
});

test("a place's cells are of about 36 pixels, in three lines at most", () => {
  assert.deepEqual(core.placeCells(5, 300), { lines: 1, perLine: 5, side: 44, high: 44 });
  assert.deepEqual(core.placeCells(65, 300), { lines: 3, perLine: 22, side: 300 / 22, high: 300 / 22 });
});
