// How large things are drawn, in pixels of the page.
"use strict";

/** The largest cells, `tallness` times as high as wide, that fit into a width and a room below one another. */
const fitCells = (cells, width, room, tallness) => {
  let best = null;
  for (let lines = 1; lines <= cells; lines++) {
    const perLine = Math.ceil(cells / lines);
    const side = Math.min(width / perLine, room / lines / tallness);
    if (!best || side > best.side) best = { lines, perLine, side, high: side * tallness };
  }
  return best;
};

/**
 * The size of a panel: as large as the rows have room for, and wide enough for the numbers above it.
 *
 * @param narrow whether the parts stand below one another; @param across the width of a row
 * @param room the height of one; @param aspect width over height of the image
 * @returns the `tall` and `wide` place of a panel, and the `image` [width, height] in it
 */
const panelSizes = ({ narrow, across, room, aspect }) => {
  const shape = Math.min(Math.max(aspect, 1), 1.5);
  const tall = Math.max(Math.min(room, (across - 16) / 3 / shape, 320), narrow ? 60 : 96);
  const least = narrow ? Math.min(Math.floor((across - 16) / 3), 186) : 186;
  const width = Math.min(tall * shape, tall * aspect);
  return { tall: Math.floor(tall), wide: Math.max(Math.floor(tall * shape), least), image: [width, width / aspect] };
};

/** The cells of a strip that shows one place at every layer: of about 36 pixels, in three lines at most. */
const placeCells = (cells, width) => {
  const lines = Math.min(Math.ceil((cells * 36) / width), 3);
  const perLine = Math.ceil(cells / lines);
  const side = Math.min(width / perLine, 44);
  return { lines, perLine, side, high: side };
};

module.exports = { fitCells, panelSizes, placeCells };
