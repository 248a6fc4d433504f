// The patches of an image: a point of it, a rectangle of them, the same place on another grid.
"use strict";

// A point is a fraction of the original image; an extent is what the patch grid covers of it, in the same unit.
const patchAt = ({ grid: [rows, columns], extent: [left, top, right, bottom] }, x, y) => {
  const column = Math.floor(((x - left) / (right - left)) * columns);
  const row = Math.floor(((y - top) / (bottom - top)) * rows);
  return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : null;
};

const boxOf = ({ grid: [rows, columns], extent: [left, top, right, bottom] }, region) => {
  const width = (right - left) / columns;
  const height = (bottom - top) / rows;
  return {
    x: left + region.left * width,
    y: top + region.top * height,
    width: (region.right - region.left + 1) * width,
    height: (region.bottom - region.top + 1) * height,
  };
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
const translate = (region, from, to) => {
  const box = boxOf(from, region);
  const stepX = box.width / (2 * (region.right - region.left + 1));
  const stepY = box.height / (2 * (region.bottom - region.top + 1));
  const first = patchAt(to, box.x + stepX, box.y + stepY);
  const last = patchAt(to, box.x + box.width - stepX, box.y + box.height - stepY);
  return first === null || last === null ? null : regionOf(to, first, last);
};

const movePatch = ({ grid: [rows, columns] }, patch, dx, dy) => {
  const row = Math.min(Math.max(Math.floor(patch / columns) + dy, 0), rows - 1);
  const column = Math.min(Math.max((patch % columns) + dx, 0), columns - 1);
  return row * columns + column;
};

/** A point as many patches to the right and down; null where no patch holds it. */
const pointBeside = (scope, { x, y }, dx, dy) => {
  const { grid: [rows, columns], extent: [left, top, right, bottom] } = scope; // prettier-ignore
  const next = { x: x + (dx * (right - left)) / columns, y: y + (dy * (bottom - top)) / rows };
  return patchAt(scope, next.x, next.y) === null ? null : next;
};

module.exports = { patchAt, boxOf, regionOf, patchesIn, translate, movePatch, pointBeside };
