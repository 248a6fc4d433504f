// Patches, and how large things are.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");
const { layOut } = require("../../../emma_viz/render/canvas/view/elements.js");

const line = (low, high, count) => {
  const at = (cell) => low + ((high - low) * cell) / count;
  return [0, 1].map((end) => Array.from({ length: count }, (_, cell) => at(cell + end)));
};
const even = ([rows, columns], [left, top, right, bottom] = [0, 0, 1, 1]) => ({
  grid: [rows, columns],
  spans: [line(left, right, columns), line(top, bottom, rows)],
});
const square = even([4, 4]);
// Two tiles of 18 pixels across, four patches of 4 in each, and what is left of each tile; one such tile down.
const apart = [[0, 4, 8, 12, 18, 22, 26, 30], [4, 8, 12, 16, 22, 26, 30, 34]].map((each) => each.map((at) => at / 36));
const tiles = { grid: [4, 8], spans: [apart, [[0, 4, 8, 12], [4, 8, 12, 16]].map((each) => each.map((at) => at / 18))] }; // prettier-ignore

test("a point hits the patch whose box holds it, in cropped and letterboxed grids too", () => {
  assert.equal(core.patchAt(square, 0, 0), 0);
  assert.equal(core.patchAt(square, 0.99, 0.99), 15);
  assert.equal(core.patchAt(square, 0.25, 0), 1);
  assert.equal(core.patchAt(square, 1, 0.5), null);
  const cropped = even([2, 2], [0.25, 0, 0.75, 1]);
  assert.equal(core.patchAt(cropped, 0.2, 0.5), null);
  assert.equal(core.patchAt(cropped, 0.6, 0.6), 3);
  const padded = even([2, 2], [0, -0.5, 1, 1.5]);
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
  const fine = even([8, 8]);
  assert.deepEqual(core.translate(core.regionOf(fine, 63), fine, square), { top: 3, left: 3, bottom: 3, right: 3 });
  const left = even([2, 2], [0, 0, 0.5, 1]);
  assert.equal(core.translate(core.regionOf(square, 3), square, left), null);
});

test("patches move by keys and stop at the edge", () => {
  assert.equal(core.movePatch(square, 5, 1, 0), 6);
  assert.equal(core.movePatch(square, 5, 0, -1), 1);
  assert.equal(core.movePatch(square, 3, 1, -1), 3);
});

test("of tiles that patches do not fill, each pixel is its own patch's, and what is left is none's", () => {
  for (let y = 0; y < 18; y++)
    for (let x = 0; x < 36; x++) {
      const seen = x % 18 < 16 && y < 16;
      const patch = seen ? Math.floor(y / 4) * 8 + Math.floor(x / 18) * 4 + Math.floor((x % 18) / 4) : null;
      assert.equal(core.patchAt(tiles, (x + 0.5) / 36, (y + 0.5) / 18), patch);
      if (!seen) continue;
      const { x: left, y: top, width, height } = core.boxOf(tiles, core.regionOf(tiles, patch));
      assert.ok(left * 36 < x + 0.5 && x + 0.5 < (left + width) * 36);
      assert.ok(top * 18 < y + 0.5 && y + 0.5 < (top + height) * 18);
      assert.ok(Math.abs(width * 36 - 4) < 1e-9 && Math.abs(height * 18 - 4) < 1e-9);
    }
  assert.deepEqual(core.extentOf(tiles), [0, 0, 34 / 36, 16 / 18]);
  const whole = even([18, 36]);
  assert.deepEqual(core.translate(core.regionOf(tiles, 4), tiles, whole), { top: 2, left: 20, bottom: 2, right: 20 });
  assert.equal(core.translate(core.regionOf(whole, 17), whole, tiles), null);
});

test("cells of one size that lie side by side are drawn as one", () => {
  assert.deepEqual(core.runsOf(tiles.spans[0]), [
    { first: 0, count: 4, begin: 0, end: 16 / 36 },
    { first: 4, count: 4, begin: 18 / 36, end: 34 / 36 },
  ]);
  assert.deepEqual(core.runsOf(even([1, 5], [-0.1, 0, 1.3, 1]).spans[0]).map(({ count }) => count), [5]);
  const wider = [[0, 0.2, 0.4], [0.2, 0.4, 1]]; // prettier-ignore
  assert.deepEqual(core.runsOf(wider).map(({ first, count }) => [first, count]), [[0, 2], [2, 1]]); // prettier-ignore
});

test("the smallest cell has eight pixels, unless it is far smaller than the others", () => {
  assert.deepEqual(tiles.spans.map(core.pixelsOf), [8 * 8.5, 8 * 4]);
  for (const width of [1e-3, 1e-9, 1e-12, 5e-324]) {
    const thin = [[0, 0.5, 0.75], [width, 0.75, 1]]; // prettier-ignore
    assert.equal(core.pixelsOf(thin), 8 * 4 * 3);
  }
});

test("a picture of tiles is laid out tile by tile, on whole pixels, in what a canvas shows of the image", () => {
  const drawn = [];
  const context = { canvas: { width: 360, height: 180 }, drawImage: (_, ...edges) => drawn.push(edges) };
  layOut(context, { width: 16, height: 8 }, tiles); // two pixels a patch
  assert.deepEqual(drawn.splice(0), [
    [0, 0, 8, 8, 0, 0, 160, 160],
    [8, 0, 8, 8, 180, 0, 160, 160],
  ]);
  context.canvas = { width: 34, height: 16 };
  layOut(context, { width: 8, height: 4 }, tiles, core.extentOf(tiles));
  assert.deepEqual(drawn.splice(0), [
    [0, 0, 4, 4, 0, 0, 16, 16],
    [4, 0, 4, 4, 18, 0, 16, 16],
  ]);
  layOut(context, { width: 4, height: 4 }, square);
  assert.deepEqual(drawn, [[0, 0, 4, 4, 0, 0, 34, 16]]);
});

test("a point moves by patches, within them", () => {
  const cropped = even([2, 4], [0, 0.5, 1, 1]);
  assert.deepEqual(core.pointBeside(cropped, { x: 0.1, y: 0.6 }, 2, 1), { x: 0.625, y: 0.875 });
  assert.deepEqual(core.pointBeside(tiles, { x: 17 / 36, y: 0.1 }, 1, 0), { x: 20 / 36, y: 2 / 18 });
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
