// Values → colours.
"use strict";

// As emma_viz.maps.scale.normalise: a scale without extent gives 0 up to it and 1 above; NaN stays. All limits
// are found in Python; tests/render/test_colours.py holds both to the same colours.
const normalise = (value, low, high) => {
  if (Number.isNaN(value)) return NaN;
  if (!(high > low)) return value > low ? 1 : 0;
  return (Math.min(Math.max(value, low), high) - low) / (high - low);
};

/** Paints values with a colour table: RGBA bytes; NaN stays transparent. */
const paint = (values, [low, high], table) => {
  const out = new Uint8ClampedArray(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    const level = normalise(values[i], low, high);
    if (Number.isNaN(level)) continue;
    const entry = 3 * Math.round(level * 255);
    out[4 * i] = table[entry];
    out[4 * i + 1] = table[entry + 1];
    out[4 * i + 2] = table[entry + 2];
    out[4 * i + 3] = 255;
  }
  return out;
};

/** The tint of a highlight: the map's colours, the more opaque the higher (emma_viz.render.overlay.highlight). */
const tint = (values, limits, table, { strength, rise }) => {
  const out = paint(values, limits, table);
  for (let i = 0; i < values.length; i++) {
    const level = normalise(values[i], ...limits);
    out[4 * i + 3] = Number.isNaN(level) ? 0 : Math.round(255 * strength * Math.pow(level, rise));
  }
  return out;
};

/** The tint of evidence: colours on both sides of zero, the more opaque the further from it. */
const tintBoth = (values, limit, table, { strength, rise }) => {
  const out = paint(values, [-limit, limit], table);
  for (let i = 0; i < values.length; i++) {
    const level = Math.min(Math.abs(values[i]) / limit, 1);
    out[4 * i + 3] = Number.isNaN(level) ? 0 : Math.round(255 * strength * Math.pow(level, rise));
  }
  return out;
};

/** The greyer, lighter photograph beneath a highlight, in place; RGBA bytes. */
const fade = (pixels, greying, lightening) => {
  for (let i = 0; i < pixels.length; i += 4) {
    const grey = 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
    for (let c = 0; c < 3; c++) {
      const muted = pixels[i + c] * (1 - greying) + grey * greying;
      pixels[i + c] = Math.round(muted * (1 - lightening) + 255 * lightening);
    }
  }
  return pixels;
};

/** Pixels of a grid, RGB bytes, as RGBA. */
const opaque = (rgb, start, count) => {
  const out = new Uint8ClampedArray(4 * count);
  for (let i = 0; i < count; i++) {
    out[4 * i] = rgb[start + 3 * i];
    out[4 * i + 1] = rgb[start + 3 * i + 1];
    out[4 * i + 2] = rgb[start + 3 * i + 2];
    out[4 * i + 3] = 255;
  }
  return out;
};

module.exports = { normalise, paint, tint, tintBoth, fade, opaque };
