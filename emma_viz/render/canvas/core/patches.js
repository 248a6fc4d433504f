// The patches of an image: a point of it, a rectangle of them, the same place on another grid.
"use strict";

// A point is a fraction of the original image. The spans of a grid are where its columns begin and where they end, then
// its rows, in the same unit; cells of a grid of tiles may lie apart.
const CLOSE = 1e-9; // less lies between two cells by rounding alone

/** The last cell that begins at or before a place of its axis, or 0. */
const cellBefore = ([starts], at) => {
  let [low, high] = [0, starts.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= at) low = middle;
    else high = middle;
  }
  return low;
};

/** The cell that holds a place of its axis; null where none does. A cell holds where it begins, not where it ends. */
const cellAt = (axis, at) => {
  const cell = cellBefore(axis, at);
  return axis[0][cell] <= at && at < axis[1][cell] ? cell : null;
};

const middleOf = ([starts, ends], cell) => (starts[cell] + ends[cell]) / 2;

const patchAt = ({ grid: [, columns], spans: [across, down] }, x, y) => {
  const [column, row] = [cellAt(across, x), cellAt(down, y)];
  return column === null || row === null ? null : row * columns + column;
};

const boxOf = ({ spans: [across, down] }, region) => {
  const [x, y] = [across[0][region.left], down[0][region.top]];
  return { x, y, width: across[1][region.right] - x, height: down[1][region.bottom] - y };
};

/** Left, top, right, bottom of the rectangle that holds the whole grid. */
const extentOf = ({ spans: [across, down] }) => [across[0][0], down[0][0], across[1].at(-1), down[1].at(-1)];

/** The cells of an axis in runs of one size, side by side: [{first, count, begin, end}]. */
const runsOf = ([starts, ends]) => {
  const runs = [];
  starts.forEach((begin, cell) => {
    const [run, end] = [runs.at(-1), ends[cell]];
    const size = run && (run.end - run.begin) / run.count;
    if (run && Math.abs(begin - run.end) <= CLOSE && Math.abs(end - begin - size) <= CLOSE) {
      run.count += 1;
      run.end = end;
    } else runs.push({ first: cell, count: 1, begin, end });
  });
  return runs;
};

const FINE = 8;
const MOST = 4;

/** Pixels that show an axis whose cells lie apart: 8 for its smallest cell, and at most 4 times as many for a cell. */
const pixelsOf = ([starts, ends]) => {
  const extent = ends.at(-1) - starts[0];
  const least = Math.min(...ends.map((end, cell) => end - starts[cell]));
  return Math.round(FINE * Math.min(extent / least, MOST * starts.length));
};

/** The rectangle of patches between two patches, both included. */
const regionOf = ({ grid: [, columns] }, first, second = first) => {
  const [a, b] = [first, second].map((patch) => ({ row: Math.floor(patch / columns), column: patch % columns }));
  return {
    top: Math.min(a.row, b.row),
    left: Math.min(a.column, b.column),
    bottom: Math.max(a.row, b.row),
    right: Math.max(a.column, b.column),
  };
};

const patchesIn = ({ grid: [, columns] }, { top, left, bottom, right }) => {
  const found = [];
  for (let row = top; row <= bottom; row++)
    for (let column = left; column <= right; column++) found.push(row * columns + column);
  return found;
};

/** The same place on another grid: by the centres of the first and the last patch. */
const translate = ({ top, left, bottom, right }, { spans: [across, down] }, to) => {
  const first = patchAt(to, middleOf(across, left), middleOf(down, top));
  const last = patchAt(to, middleOf(across, right), middleOf(down, bottom));
  return first === null || last === null ? null : regionOf(to, first, last);
};

const movePatch = ({ grid: [rows, columns] }, patch, dx, dy) => {
  const row = Math.min(Math.max(Math.floor(patch / columns) + dy, 0), rows - 1);
  const column = Math.min(Math.max((patch % columns) + dx, 0), columns - 1);
  return row * columns + column;
};

/** The middle of the patch that lies as many patches to the right and down of a point; null where there is none. */
const pointBeside = ({ spans: [across, down] }, { x, y }, dx, dy) => {
  const [column, row] = [cellBefore(across, x) + dx, cellBefore(down, y) + dy];
  const there = column in across[0] && row in down[0];
  return there ? { x: middleOf(across, column), y: middleOf(down, row) } : null;
};

module.exports = { patchAt, boxOf, extentOf, runsOf, pixelsOf, regionOf, patchesIn, translate, movePatch, pointBeside };
