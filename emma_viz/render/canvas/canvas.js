// The layer canvas: models side by side, every layer at a fingertip, drawn in the browser from one payload.
//
// One file, no build step, no library, no request. First come pure functions (`core`), which run in Node; then the
// interactive canvas (`mount`) and the pages of figures (`sheet`), which both draw with them. What a payload holds is
// described in docs/explorer.md.
"use strict";
(function (root) {
  // ---------------------------------------------------------------- bytes

  const bytesOf = (text) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  };
  // Copied, so that the four bytes of a number begin where the platform wants them.
  const floatsOf = (text) => new Float32Array(bytesOf(text).slice().buffer);
  const tableOf = (hex) => Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.substr(2 * i, 2), 16));

  // ---------------------------------------------------------------- colours

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

  // ---------------------------------------------------------------- numbers

  /** First minus second in single precision, as numpy subtracts float32. */
  const subtract = (first, second) => first.map((value, i) => Math.fround(value - second[i]));

  /** numpy.percentile with its default, linear interpolation, of the finite values; NaN when there are none. */
  const percentile = (values, q) => {
    const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
    if (!sorted.length) return NaN;
    const at = (q / 100) * (sorted.length - 1);
    const below = Math.floor(at);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
  };

  const mean = (values) => {
    const finite = values.filter(Number.isFinite);
    return finite.length ? finite.reduce((a, b) => a + b, 0) / finite.length : NaN;
  };

  const minus = (text) => text.replace("-", "\u2212");
  /** A number to some digits, and what is smaller than a ten-thousandth as a power of ten, as Python's `g` prints it. */
  const figures = (value, digits = 3) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
    const short = Number(value.toPrecision(digits));
    return minus(short && Math.abs(short) < 1e-4 ? short.toExponential() : short.toString());
  };
  const fixed = (value, digits = 2) =>
    value === null || value === undefined || !Number.isFinite(value) ? "\u2013" : minus(value.toFixed(digits));

  /**
   * The scale of a word's evidence. A change of 0.01 nats moves a word's chance by 1 %: less than that, or than 1 % of
   * the word's log-probability, is called negligible, and drawn pale.
   *
   * @param sizes per model, of the changes, nats; @param scores per model, the word's log-probability, nats
   */
  const evidenceScale = (sizes, scores) => {
    const most = sizes.map((each) => each.reduce((best, size) => Math.max(best, size), 0));
    const at = most.indexOf(Math.max(...most));
    const whole = Math.abs(scores[at]);
    const negligible = most.every((size, i) => !(size >= Math.max(0.01, 0.01 * Math.abs(scores[i]))));
    const share = whole > 0 ? `, ${figures((100 * most[at]) / whole, 2)} % of the word's log-probability` : "";
    const limit = Math.max(percentile(sizes.flat(), 99) || 0, 0.1 * whole, 0.05);
    return { limit, negligible, meaning: `${negligible ? "negligible: " : ""}at most ${figures(most[at], 2)} nats for a token${share}` };
  };

  const percent = (share) => (share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`);

  // ---------------------------------------------------------------- patches

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

  // ---------------------------------------------------------------- layers

  const layerLabel = (layer) => (layer < 0 ? "embedding" : `layer ${layer}`);

  /** The steps of the slider: per step, the index of each model's layer. Unequal depths move together by depth. */
  const stepsOf = (layersOfModels) => {
    const longest = layersOfModels.reduce((best, each) => (each.length > best.length ? each : best), []);
    const same = layersOfModels.every((layers) => layers.join() === longest.join());
    return longest.map((_, step) =>
      layersOfModels.map((layers) =>
        same ? step : Math.round((step * (layers.length - 1)) / Math.max(longest.length - 1, 1))
      )
    );
  };

  /** Where the slider goes: a state {step, count, playing, rest} and an event make the next state. */
  const scrub = (state, event) => {
    const at = (step, more = {}) => ({
      ...state,
      step: Math.min(Math.max(step, 0), Math.max(state.count - 1, 0)),
      ...more,
    });
    switch (event.type) {
      case "set":
        return at(event.step, { playing: false, rest: 0 });
      case "move":
        return at(state.step + event.by, { playing: false, rest: 0 });
      case "key": {
        const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 4, PageDown: -4 };
        if (event.key in moves) return scrub(state, { type: "move", by: moves[event.key] });
        if (event.key === "Home") return scrub(state, { type: "set", step: 0 });
        if (event.key === "End") return scrub(state, { type: "set", step: state.count - 1 });
        if (event.key === " ") return scrub(state, { type: "play" });
        return state;
      }
      case "wheel": {
        // A mouse sends 100 or 120 a notch, a touch pad many small ones: a step each 60, and one an event at most.
        const rest = state.rest + event.delta;
        const steps = Math.max(-1, Math.min(1, Math.trunc(rest / 60)));
        return at(state.step + steps, { rest: steps ? 0 : rest, playing: steps ? false : state.playing });
      }
      case "play":
        return { ...state, playing: !state.playing && state.count > 1, rest: 0 };
      case "tick":
        return state.playing ? { ...state, step: (state.step + 1) % state.count } : state;
      case "count":
        return { ...state, count: event.count, step: Math.min(state.step, Math.max(event.count - 1, 0)), playing: false };
      default:
        return state;
    }
  };

  // ---------------------------------------------------------------- links

  const LINKED = ["image", "models", "prompt", "lens", "site", "layer", "kind", "scale", "colours", "blend",
    "smooth", "difference", "patch", "region", "word", "tokens"]; // prettier-ignore

  /** A view as the fragment of an address; what is not set is left out. */
  const toLink = (view) =>
    LINKED.map((key) => [key, [].concat(view[key] ?? []).join(",")])
      .filter(([, text]) => text !== "")
      .map(([key, text]) => `${key}=${encodeURIComponent(text)}`)
      .join("&");

  const fromLink = (text) => {
    const view = {};
    for (const part of text.replace(/^#/, "").split("&")) {
      const cut = part.indexOf("=");
      const key = part.slice(0, cut);
      if (cut < 1 || !LINKED.includes(key)) continue;
      try {
        view[key] = decodeURIComponent(part.slice(cut + 1));
      } catch {
        continue; // a damaged link loses that part of the view, not the page
      }
    }
    return view;
  };

  // ---------------------------------------------------------------- payload

  /** A payload with its base64 turned into numbers; pictures that come as PNG stay addresses until they are drawn. */
  const unpack = (payload) => {
    if (payload.schema !== 1) throw new Error(`This page reads payloads of schema 1, and got ${payload.schema}.`);
    const tables = Object.fromEntries(Object.entries(payload.tables).map(([name, hex]) => [name, tableOf(hex)]));
    const models = payload.models.map((model) => ({
      ...model,
      decoded: model.decoded.encoding === "raw" ? { ...model.decoded, data: bytesOf(model.decoded.data) } : model.decoded,
      maps: Object.fromEntries(
        Object.entries(model.maps).map(([kind, map]) => [
          kind,
          { ...map, values: floatsOf(map.values), true: floatsOf(map.true) },
        ])
      ),
      truth: bytesOf(model.truth),
    }));
    return { ...payload, tables, models };
  };

  const mapOf = (model, kind, index) => {
    const cells = model.grid[0] * model.grid[1];
    return model.maps[kind].values.subarray(index * cells, (index + 1) * cells);
  };

  /** The colour limits of one map. `scale` is shared, per_row, per_map, or [low, high]. */
  const limitsOf = (model, kind, index, scale) => {
    if (Array.isArray(scale)) return scale.map(Math.fround);
    const found = model.maps[kind].limits[scale];
    return scale === "per_map" ? found[index] : found;
  };

  /** Means of a map over a region's patches, one a layer. */
  const trajectory = (model, kind, patches) =>
    model.layers.map((_, index) => {
      const map = mapOf(model, kind, index);
      return mean(patches.map((patch) => map[patch]));
    });

  /** First minus second at the indices of their layers; null where those are not one layer. */
  const differenceAt = ([first, second], kind, [i, j]) =>
    first.layers[i] === second.layers[j] ? subtract(mapOf(first, kind, i), mapOf(second, kind, j)) : null;

  // ---------------------------------------------------------------- sheets

  // "0/1/4" names image 0, scope 1, layer 4 of a sheet's maps.
  const sheetMap = (data, address) => {
    const [image, scope, layer] = address.split("/");
    const found = data.images[image].scopes[scope];
    const { values, limits } = found.maps[layer];
    return { ...found, limits, values: floatsOf(values) };
  };

  const nearest = (values, wanted) =>
    values.reduce((best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best));

  const core = {
    bytesOf, floatsOf, tableOf, normalise, paint, tint, fade, opaque, subtract, percentile, mean,
    figures, fixed, percent, evidenceScale, patchAt, boxOf, regionOf, patchesIn, translate, movePatch, fitCells, layerLabel, stepsOf, scrub, toLink,
    fromLink, unpack, mapOf, limitsOf, trajectory, differenceAt, sheetMap, nearest,
  }; // prettier-ignore

  // ================================================================ the page

  const LETTERS = "ABCDEFGH";
  const FRAMES = 8; // layers a second while playing
  const REST = 150; // milliseconds without a change until a view is at rest
  const STILL = new Set(["truth", "truemap"]); // panels that show the same at every layer

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  };
  /** Puts nodes in the place of a holder's; those that would be the same stay, and need no new layout. */
  const renew = (holder, nodes) => {
    const old = [...holder.childNodes];
    if (old.length !== nodes.length) return holder.replaceChildren(...nodes);
    nodes.forEach((node, i) => old[i].isEqualNode(node) || old[i].replaceWith(node));
  };
  const svg = (tag, attributes = {}, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  let described = 0;
  /** Words with an explanation: shown to the pointer, and the description of a control for those who cannot see it. */
  const tipped = (text, tip, control = null) => {
    if (control) {
      const id = `ev-tip-${++described}`;
      control.setAttribute("aria-describedby", id);
      return make("span", { class: "ev-tip", "data-tip": tip }, text, make("span", { id, hidden: true, text: tip }));
    }
    return make("span", { class: "ev-tip", "data-tip": tip, text });
  };
  const canvasOf = (pixels, width, height) => {
    const canvas = make("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    return canvas;
  };
  const pictureOf = (address) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("A picture of this result could not be drawn."));
      image.src = address;
    });

  const TIPS = {
    kind: "What a map shows: one number for each image token's patch.",
    scale:
      "One colour scale for all models and layers makes maps comparable. 'Each map' stretches every map to its own range: do not compare colours then.",
    blend: "How strongly the map's colours are laid over the photograph.",
    smooth: "Draw maps with soft edges. The numbers are one a patch all the same.",
    decoded: "Pixels that the lens reads from the image tokens at this layer.",
    map: "One number a patch, from the decoded pixels; r is its correlation with the map of the true pixels.",
    highlight: "The map laid over the photograph.",
    truth: "The pixels that the model saw, in the frame of its patches.",
    truemap: "The same map made from the true pixels: what a perfect decoding would show.",
    difference: "First model's map minus the second's, patch by patch, on the raw values.",
    r2: "R²: share of the pixel variance of this image that the decoding explains. 1 is perfect, 0 is one flat colour.",
    site: "Where in a block the states were read; resid_post is what a block hands to the next one.",
    lens: "How well the lens decodes this layer on images it was not fitted on. What it cannot decode may still be there.",
    retention: "How much of the picture can be decoded at each layer: R² of the decoded pixels (solid), and the lens's own R² on held-out images (dotted).",
    fidelity: "How alike each layer's map and the map of the true pixels are: Pearson's r.",
    path: "The map's value at this patch, or its mean over the region, layer by layer. Dashed: the same value for the true pixels.",
    words: "Logit lens: the words that the model's own output layer would read from this image token at this layer.",
  };

  /** A line chart over the steps; `choose(step)` is called when it is clicked. */
  const chartOf = (place, { title, tip, digits = 2 }, choose) => {
    const value = make("span", { class: "ev-chart-value" });
    const frame = svg("svg", { class: "ev-chart-svg", role: "img" });
    // Beside the drawing and not in it: to move a line of an SVG lays out every text in it again.
    const cursor = make("i", { class: "ev-cursor", hidden: true });
    const holder = make("div", { class: "ev-chart-plot" }, cursor, frame);
    place.replaceChildren(make("div", { class: "ev-chart-head" }, tipped(title, tip), value), holder);
    let data = null;
    let current = 0;
    let hovered = null;
    let geometry = null;

    const draw = () => {
      if (!data) return;
      const width = holder.clientWidth || 300;
      const height = holder.clientHeight || 90;
      const left = 34, right = 8, top = 9, bottom = 17;
      const { lines, labels, low, high } = data;
      const x = (step) => left + (step / Math.max(labels.length - 1, 1)) * (width - left - right);
      // What lies below the axis is drawn on its edge; the numbers say how far.
      const share = (level) => Math.min(Math.max((level - low) / (high - low || 1), 0), 1);
      const y = (level) => top + (1 - share(level)) * (height - top - bottom);
      geometry = { left, right, width, x };
      frame.setAttribute("viewBox", `0 0 ${width} ${height}`);
      frame.setAttribute("aria-label", data.spoken);
      const nodes = [];
      const named = [];
      for (const level of data.ticks) {
        nodes.push(svg("line", { x1: left, x2: width - right, y1: y(level), y2: y(level), class: "ev-grid" }));
        if (named.some((other) => Math.abs(other - y(level)) < 11)) continue; // no room for its number
        named.push(y(level));
        nodes.push(svg("text", { x: left - 5, y: y(level) + 3.5, "text-anchor": "end" }, figures(level, 2)));
      }
      const each = Math.ceil(labels.length / Math.max(Math.floor((width - left) / 34), 1));
      labels.forEach((label, step) => {
        if (step % each === 0) nodes.push(svg("text", { x: x(step), y: height - 4, "text-anchor": "middle" }, label));
      });
      cursor.style.top = `${top}px`;
      cursor.style.bottom = `${bottom}px`;
      for (const line of lines) {
        const points = line.values.map((level, step) => [x(step), y(level), level]).filter((p) => Number.isFinite(p[2]));
        const shape = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
        if (points.length === 1 && line.dash)
          nodes.push(svg("circle", { cx: points[0][0], cy: points[0][1], r: 3, class: "ev-line", style: `--c:var(--ev-m${line.colour})` }));
        nodes.push(svg("polyline", { points: shape, class: `ev-line ${line.dash || ""}`, style: `--c:var(--ev-m${line.colour})` }));
        if (!line.dash)
          for (const [px, py] of points)
            nodes.push(
              line.colour % 2
                ? svg("rect", { x: px - 2.2, y: py - 2.2, width: 4.4, height: 4.4, class: "ev-dot", style: `--c:var(--ev-m${line.colour})` })
                : svg("circle", { cx: px, cy: py, r: 2.4, class: "ev-dot", style: `--c:var(--ev-m${line.colour})` })
            );
      }
      frame.replaceChildren(...nodes);
      mark();
    };
    const mark = () => {
      if (!data || !geometry) return;
      const step = hovered ?? current;
      cursor.hidden = false;
      cursor.style.transform = `translateX(${geometry.x(step)}px)`;
      renew(
        value,
        data.lines
          .filter((line) => line.dash !== "dashed")
          .map((line) => {
            const words = `${line.short} ${fixed(line.values[step], digits)}`;
            return make("span", { class: `ev-key ${line.dash || ""}`, style: `--c:var(--ev-m${line.colour})`, text: words });
          })
      );
    };
    const stepAt = (event) => {
      const box = frame.getBoundingClientRect();
      const share = (((event.clientX - box.left) / box.width) * geometry.width - geometry.left) / (geometry.width - geometry.left - geometry.right);
      const last = data.labels.length - 1;
      return Math.min(Math.max(Math.round(share * last), 0), last);
    };
    holder.addEventListener("pointermove", (event) => {
      if (!data) return;
      hovered = stepAt(event);
      mark();
    });
    holder.addEventListener("pointerleave", () => {
      hovered = null;
      mark();
    });
    holder.addEventListener("click", (event) => data && choose(stepAt(event)));
    new ResizeObserver(draw).observe(holder);
    return {
      set(next) {
        const all = next.lines.flatMap((line) => line.values).filter(Number.isFinite);
        const low = next.low ?? Math.min(0, ...all);
        const high = Math.max(next.high ?? -Infinity, ...all, low + 1e-9);
        const spoken = `${title}. ` + next.lines.map((line) => `${line.name}: ${line.values.map((v) => fixed(v, digits)).join(", ")}`).join(". ");
        data = { ...next, low, high, ticks: low < 0 ? [high, 0, low] : [high, low, (low + high) / 2], spoken };
        draw();
      },
      step(step) {
        current = step;
        mark();
      },
    };
  };

  /**
   * Puts the canvas on a page.
   *
   * @param element an empty element
   * @param host what the page can do besides: `words(patch)`, `attribute(model, word)`, `save(format, view)`, each a
   *   promise; `onview(view)`; `context()` with further fields for links. What is left out is not offered.
   */
  const mount = (element, host = {}) => {
    let result = null; // the unpacked payload
    let steps = [];
    let scrubber = { step: 0, count: 0, playing: false, rest: 0 };
    let view = { kind: "distance", scale: "shared", colours: "viridis", blend: 0.8, smooth: false };
    let hovered = null; // {region, model}: what the pointer is over
    let locked = null; // the same, kept by a click or a box
    let drag = null;
    let word = null; // {model, index, answer}: the word whose attribution is shown
    let photo = null;
    let pale = null;
    let pictures = []; // per model, per layer: canvas or image of the decoded pixels
    let truths = [];
    let readings = new Map(); // patch → words at every layer
    let pending = false;
    let changed = "all"; // since the last drawing: everything, or nothing but the step
    let generation = 0;
    const stats = { draws: 0, steps: new Set() };

    // ------------------------------------------------------------ skeleton

    const select = (name, label, tip) => {
      const box = make("select", { "data-set": name, "aria-label": label });
      box.addEventListener("change", () => set({ [name]: box.value }));
      return make("label", { class: "ev-field" }, tipped(label, tip, box), box);
    };
    const blend = make("input", { type: "range", min: "0", max: "1", step: "0.05", "data-set": "blend", "aria-label": "Highlight strength" });
    blend.addEventListener("input", () => set({ blend: Number(blend.value) }));
    const smooth = make("input", { type: "checkbox", "data-set": "smooth" });
    smooth.addEventListener("change", () => set({ smooth: smooth.checked }));
    const menu = make("div", { class: "ev-menu", role: "menu", "aria-label": "Save", hidden: true });
    const saving = make("button", { type: "button", class: "ev-button", "aria-haspopup": "menu", "aria-expanded": "false", text: "Save \u25be" });
    const saver = make("div", { class: "ev-saver" }, saving, menu);
    const linker = make("button", { type: "button", class: "ev-button", text: "Copy link", title: "An address that restores this view" });
    const theme = make("button", { type: "button", class: "ev-button ev-icon", "aria-label": "Light or dark", title: "Light or dark", text: "\u25d0" });
    const bar = make(
      "div",
      { class: "ev-bar" },
      select("kind", "Map", TIPS.kind),
      select("scale", "Scale", TIPS.scale),
      select("colours", "Colours", "The colour table. Viridis, magma, inferno and cividis read well for colour-blind people."),
      make("label", { class: "ev-field" }, tipped("Highlight", TIPS.blend, blend), blend),
      make("label", { class: "ev-field" }, smooth, tipped("Smooth", TIPS.smooth, smooth)),
      make("span", { class: "ev-gap" }),
      saver,
      linker,
      theme
    );
    const rows = make("div", { class: "ev-rows" });
    const answers = make("div", { class: "ev-answers" });
    const inspector = make("section", { class: "ev-inspector", "aria-label": "Patch inspector" });
    const aside = make("div", { class: "ev-aside" }, answers, inspector);
    const main = make("div", { class: "ev-main" }, rows, aside);
    const legend = make("div", { class: "ev-legend" });
    const back = make("button", { type: "button", class: "ev-button ev-icon", "aria-label": "Previous layer", title: "Previous layer (\u2190)", text: "\u2039" });
    const play = make("button", { type: "button", class: "ev-button ev-icon", "aria-label": "Play", title: "Play through the layers (space)", text: "\u25b6\ufe0e" });
    const next = make("button", { type: "button", class: "ev-button ev-icon", "aria-label": "Next layer", title: "Next layer (\u2192)", text: "\u203a" });
    const slider = make("input", { type: "range", min: "0", max: "0", step: "1", value: "0", class: "ev-slider", "aria-label": "Layer" });
    const where = make("output", { class: "ev-where", "aria-live": "off" });
    const track = make("div", { class: "ev-scrub" }, back, play, next, slider, where);
    const retentionBox = make("div", { class: "ev-chart" });
    const fidelityBox = make("div", { class: "ev-chart" });
    const curves = make("div", { class: "ev-curves" }, retentionBox, fidelityBox);
    const veil = make("div", { class: "ev-veil", role: "status", "aria-live": "polite" });
    const notice = make("div", { class: "ev-notice", role: "status", hidden: true });
    const spoken = make("div", { class: "ev-spoken", role: "status", "aria-live": "polite" });
    const tell = (text) => (spoken.textContent = text);
    const frame = make("div", { class: "ev", "data-state": "empty" }, notice, bar, main, legend, track, curves, veil, spoken);
    element.replaceChildren(frame);
    const go = (event) => apply(scrub(scrubber, event));
    const retention = chartOf(retentionBox, { title: "Retention: R\u00b2", tip: TIPS.retention }, (step) => go({ type: "set", step }));
    const fidelity = chartOf(fidelityBox, { title: "Fidelity: r with the true map", tip: TIPS.fidelity }, (step) => go({ type: "set", step }));
    let path = null;

    // ------------------------------------------------------------ state

    const apply = (state) => {
      const playing = state.playing && !scrubber.playing;
      scrubber = state;
      play.textContent = state.playing ? "\u275a\u275a" : "\u25b6\ufe0e";
      play.setAttribute("aria-label", state.playing ? "Pause" : "Play");
      invalidate("step");
      if (playing) beat();
    };
    const beat = () => {
      let last = performance.now();
      const frameAt = (now) => {
        if (!scrubber.playing) return;
        if (now - last >= 1000 / FRAMES) {
          last = now;
          apply(scrub(scrubber, { type: "tick" }));
        }
        requestAnimationFrame(frameAt);
      };
      requestAnimationFrame(frameAt);
    };
    const set = (change) => {
      view = { ...view, ...change };
      if (!result) return;
      if ("kind" in change || "scale" in change) {
        showCurves();
        showInspector();
      }
      showLegend();
      invalidate();
    };
    const currentLayer = () => {
      const longest = result.models.reduce((best, model) => (model.layers.length > best.layers.length ? model : best));
      return longest.layers[scrubber.step];
    };
    const linkedView = () => ({
      ...(host.context ? host.context() : {}),
      layer: currentLayer(),
      kind: view.kind,
      scale: Array.isArray(view.scale) ? view.scale.join(":") : view.scale,
      colours: view.colours,
      blend: view.blend === 0.8 ? null : view.blend,
      smooth: view.smooth ? 1 : null,
      patch: locked && !locked.box ? locked.patch : null,
      region: locked && locked.box ? [locked.region.top, locked.region.left, locked.region.bottom, locked.region.right] : null,
      word: word ? [word.model, word.index] : null,
    });
    let noted = "";
    let noting = 0;
    /** Tells the page of the view when it has come to rest: an address that changed with every frame would slow it. */
    const note = () => {
      clearTimeout(noting);
      if (!result || !host.onview || drag) return;
      noting = setTimeout(() => {
        const link = result ? toLink(linkedView()) : noted;
        if (link === noted) return;
        noted = link;
        host.onview(link);
      }, REST);
    };

    // ------------------------------------------------------------ drawing

    const invalidate = (change = "all") => {
      changed = changed === "all" ? changed : change;
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => {
        pending = false;
        if (result && frame.isConnected) render();
      });
    };
    const indexOf = (model) => steps[scrubber.step][model];
    const place = (model, width, height) => {
      const [left, top, right, bottom] = result.models[model].extent;
      return [left * width, top * height, (right - left) * width, (bottom - top) * height];
    };
    const spread = (context, picture, model, soft) => {
      context.imageSmoothingEnabled = soft;
      context.drawImage(picture, ...place(model, context.canvas.width, context.canvas.height));
    };
    const mapsShown = (model) => {
      const found = result.models[model];
      if (word && word.values[model])
        return { values: word.values[model], limits: [-word.limit, word.limit], table: result.tables.RdBu };
      const index = indexOf(model);
      return {
        values: mapOf(found, view.kind, index),
        limits: limitsOf(found, view.kind, index, view.scale),
        table: result.tables[view.colours],
      };
    };
    const painters = {
      decoded(context, model) {
        const picture = pictures[model][indexOf(model)];
        if (picture) spread(context, picture, model, false);
      },
      map(context, model) {
        const { values, limits, table } = mapsShown(model);
        const [height, width] = result.models[model].grid;
        spread(context, canvasOf(paint(values, limits, table), width, height), model, view.smooth);
      },
      highlight(context, model) {
        const { width, height } = context.canvas;
        if (pale) {
          context.imageSmoothingEnabled = true;
          context.drawImage(pale, 0, 0, width, height);
        }
        const { values, limits, table } = mapsShown(model);
        const [rowCount, columns] = result.models[model].grid;
        const shown = word && word.values[model] ? values.map((v) => Math.max(v, 0)) : values;
        const settings = { strength: view.blend, rise: result.overlay.rise };
        const picture =
          word && word.values[model]
            ? tint(shown, [0, limits[1]], upperHalf(table), settings)
            : tint(shown, limits, table, settings);
        spread(context, canvasOf(picture, columns, rowCount), model, view.smooth);
      },
      truth(context) {
        spread(context, truths[0], 0, false);
      },
      truemap(context) {
        const map = result.models[0].maps[view.kind];
        const [height, width] = result.models[0].grid;
        const limits = Array.isArray(view.scale) ? view.scale.map(Math.fround) : map.limits.true[view.scale];
        spread(context, canvasOf(paint(map.true, limits, result.tables[view.colours]), width, height), 0, view.smooth);
      },
      difference(context) {
        const limit = differenceLimit();
        const values = limit && differenceAt(result.models, view.kind, [indexOf(0), indexOf(1)]);
        if (!values) return;
        const [height, width] = result.models[0].grid;
        const pixels = paint(values, [-limit, limit], result.tables.RdBu);
        spread(context, canvasOf(pixels, width, height), 0, view.smooth);
      },
    };
    const upperHalf = (table) => {
      const out = new Uint8Array(768);
      for (let i = 0; i < 256; i++) out.set(table.subarray(3 * (128 + (i >> 1)), 3 * (128 + (i >> 1)) + 3), 3 * i);
      return out;
    };
    /** Half the width of the difference's scale; null where the first two models cannot be subtracted. */
    const differenceLimit = () => result.difference && result.difference[view.kind];
    const regionFor = (chosen, model) => {
      const from = result.models[chosen.model];
      const to = result.models[model];
      if (from === to) return chosen.region;
      if (chosen.whole) return { top: 0, left: 0, bottom: to.grid[0] - 1, right: to.grid[1] - 1 };
      return translate(chosen.region, from, to);
    };
    const outline = (context, chosen, model, strong) => {
      const region = regionFor(chosen, model);
      if (!region) return;
      const box = boxOf(result.models[model], region);
      const { width, height } = context.canvas;
      const scale = width / context.canvas.clientWidth;
      const edges = [box.x * width, box.y * height, box.width * width, box.height * height];
      context.lineWidth = (strong ? 4 : 3) * scale;
      context.strokeStyle = "#000";
      context.strokeRect(...edges);
      context.lineWidth = (strong ? 2 : 1.2) * scale;
      context.strokeStyle = "#fff";
      context.strokeRect(...edges);
    };
    const render = () => {
      for (const panel of frame.querySelectorAll("canvas[data-paint]")) {
        if (changed === "step" && STILL.has(panel.dataset.paint)) continue;
        const context = panel.getContext("2d");
        const model = Number(panel.dataset.model);
        context.clearRect(0, 0, panel.width, panel.height);
        painters[panel.dataset.paint](context, model);
        if (hovered && !drag) outline(context, hovered, model, false);
        if (locked) outline(context, locked, model, true);
        if (drag && drag.region) outline(context, { model: drag.model, region: drag.region }, model, true);
      }
      showNumbers();
      slider.value = String(scrubber.step);
      slider.setAttribute("aria-valuetext", layerLabel(currentLayer()));
      retention.step(scrubber.step);
      fidelity.step(scrubber.step);
      if (path) path.step(scrubber.step);
      showInspected();
      changed = "step";
      stats.draws += 1;
      stats.steps.add(scrubber.step);
      frame.dataset.step = String(scrubber.step);
      note();
    };

    // ------------------------------------------------------------ rows, numbers, legend

    const panel = (paintName, model, label, tip) => {
      const canvas = make("canvas", {
        "data-paint": paintName,
        "data-model": String(model),
        tabindex: "0",
        role: "img",
        "aria-label": label,
      });
      const caption = make("figcaption", {}, tipped(label, tip, canvas));
      if (paintName === "map") caption.append(make("span", { class: "ev-value", "data-number": "value" }));
      return make("figure", { class: "ev-panel" }, canvas, caption);
    };
    const forced = (model) =>
      model.forced.length ? [make("span", { class: "ev-warn ev-forced", title: model.forced.join("; "), text: "lens forced" })] : [];
    const dot = (model) => make("i", { class: "ev-letter", style: `--c:var(--ev-m${model})`, text: LETTERS[model] });
    const showRows = () => {
      const alike = steps.every((step) => new Set(step.map((at, index) => result.models[index].layers[at])).size === 1);
      // As wide as the longest place, so that nothing beside it moves.
      where.style.width = `${alike ? 18 : 12 * result.models.length}ch`;
      const made = result.models.map((model, index) =>
        make(
          "section",
          { class: "ev-row", "data-model": String(index), "aria-label": model.name },
          make("header", {}, dot(index), make("b", { text: model.name, title: model.name }), ...forced(model), make("span", { class: "ev-numbers" })),
          make(
            "div",
            { class: "ev-panels" },
            panel("decoded", index, "decoded", TIPS.decoded),
            panel("map", index, "map", TIPS.map),
            panel("highlight", index, "highlight", TIPS.highlight)
          )
        )
      );
      const panels = [panel("truth", 0, "true pixels", TIPS.truth), panel("truemap", 0, "true map", TIPS.truemap)];
      if (result.models.length > 1) panels.push(panel("difference", 0, "difference A \u2212 B", TIPS.difference));
      const note = make("span", { class: "ev-numbers", "data-reference": "" });
      made.push(
        make(
          "section",
          { class: "ev-row", "aria-label": "Reference" },
          make("header", {}, make("b", { text: "Reference" }), note),
          make("div", { class: "ev-panels" }, ...panels)
        )
      );
      rows.replaceChildren(...made);
      layout();
    };
    /** Empty frames in the place of the panels, while there is no result yet. */
    const showBlanks = (names) => {
      const frames = () => [0, 1, 2].map(() => make("figure", { class: "ev-panel" }));
      rows.replaceChildren(
        ...[...names, "Reference"].map((name, index) =>
          make(
            "section",
            { class: "ev-row ev-blank", "aria-hidden": "true" },
            make("header", {}, ...(index < names.length ? [dot(index)] : []), make("b", { text: name })),
            make("div", { class: "ev-panels" }, ...frames())
          )
        )
      );
      rows.dataset.blank = names.join();
      layout();
    };
    const layout = () => {
      const skeleton = rows.querySelectorAll(".ev-blank").length;
      if (!result && !skeleton) return;
      const narrow = window.innerWidth <= 1180 || frame.clientWidth < 760;
      frame.classList.toggle("ev-narrow", narrow);
      const aspect = result ? result.image.size[0] / result.image.size[1] : 1.5;
      const shape = Math.min(Math.max(aspect, 1), 1.5);
      const count = result ? result.models.length + 1 : skeleton;
      const across = narrow ? frame.clientWidth - 12 : frame.clientWidth * 0.69;
      const others = [bar, legend, track].reduce((sum, part) => sum + part.offsetHeight, 0) + 116 + 5 * 8;
      const down = (frame.clientHeight - others) / count - 46;
      // On a narrow page answers and bar are above the rows, and the slider stays in view below them.
      const room = narrow ? Math.max((window.innerHeight - 230) / Math.min(count, 2) - 46, 96) : down;
      frame.style.setProperty("--ev-cap", "18px");
      const tall = Math.max(Math.min(room, (across - 16) / 3 / shape, 320), narrow ? 60 : 96);
      main.style.height = narrow ? "" : `${Math.ceil(count * (Math.floor(tall) + 44))}px`;
      frame.style.setProperty("--ev-ph", `${Math.floor(tall)}px`);
      // Wide enough for the numbers above the panels.
      frame.style.setProperty("--ev-pw", `${Math.max(Math.floor(tall * shape), narrow ? Math.min(Math.floor((across - 16) / 3), 186) : 186)}px`);
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const wide = Math.min(tall * shape, tall * aspect);
      for (const canvas of frame.querySelectorAll("canvas[data-paint]")) {
        canvas.style.width = `${Math.floor(wide)}px`;
        canvas.style.height = `${Math.floor(wide / aspect)}px`;
        canvas.width = Math.max(Math.floor(wide * ratio), 1);
        canvas.height = Math.max(Math.floor((wide / aspect) * ratio), 1);
      }
      invalidate();
    };
    /** The number under the pointer, in the map's caption: the map's, or the evidence's while a word is shown. */
    const showValue = (index, chosen) => {
      const slot = rows.querySelector(`[data-model="${index}"] [data-number=value]`);
      const region = chosen && regionFor(chosen, index);
      const shown = region && mapsShown(index).values;
      const value = region ? mean(patchesIn(result.models[index], region).map((patch) => shown[patch])) : NaN;
      slot.textContent = region ? `${region.top === region.bottom && region.left === region.right ? "here" : "mean"} ${figures(value)}` : "";
    };
    const showNumbers = () => {
      result.models.forEach((model, index) => {
        const at = indexOf(index);
        const quality = model.lens_quality[at];
        const parts = [
          make("span", { class: "ev-at", text: layerLabel(model.layers[at]) }),
          make("span", { title: TIPS.r2, text: `R\u00b2 ${fixed(model.scores.r2[at])}`, "data-number": "r2" }),
          make("span", { title: TIPS.map, text: `map r ${fixed(model.maps[view.kind].correlation[at])}`, "data-number": "r" }),
          make("span", {
            title: TIPS.lens + " " + model.lens,
            text: quality ? `${model.lens_kind} lens, held out ${fixed(quality.r2)}` : `${model.lens_kind} lens, not measured`,
            "data-number": "lens",
          }),
        ];
        showValue(index, hovered || locked);
        renew(rows.querySelector(`[data-model="${index}"] .ev-numbers`), parts);
      });
      const chosen = hovered || locked;
      let text = `${result.image.name}, ${result.image.size[0]} \u00d7 ${result.image.size[1]}`;
      if (result.image.uniform) text += ": the image is uniform, so R\u00b2 and r are not defined";
      if (chosen) {
        const map = result.models[0].maps[view.kind].true;
        const region = regionFor(chosen, 0);
        if (region) text = `true value here ${figures(mean(patchesIn(result.models[0], region).map((patch) => map[patch])))}`;
      }
      const reference = rows.querySelector("[data-reference]");
      if (reference.textContent !== text) reference.textContent = text;
      const layers = result.models.map((model, index) => model.layers[indexOf(index)]);
      const same = layers.every((layer) => layer === layers[0]);
      const last = Math.max(...result.models.map((model) => model.n_layer)) - 1;
      where.textContent = same ? `${layerLabel(layers[0])} of 0\u2013${last}` : layers.map(layerLabel).join(" | ");
    };
    const ramp = (name) => {
      const table = result.tables[name];
      const stops = Array.from({ length: 17 }, (_, i) => {
        const at = 3 * Math.round((i / 16) * 255);
        return `rgb(${table[at]} ${table[at + 1]} ${table[at + 2]})`;
      });
      return make("i", { class: "ev-ramp", style: `background:linear-gradient(to right, ${stops.join(", ")})` });
    };
    const showLegend = () => {
      const kind = result.kinds.find((each) => each.id === view.kind);
      const parts = [];
      if (word) {
        const shown = word.values.some(Boolean);
        const drop = make("button", { type: "button", class: "ev-chip", text: `\u201c${word.text}\u201d \u2715`, title: "Back to the maps", onclick: () => forget() });
        parts.push(make("span", { class: "ev-legend-part" }, make("b", { text: "Evidence for" }), drop));
        if (shown)
          parts.push(
            make("span", { class: "ev-legend-part" }, make("span", { text: `${figures(-word.limit)}` }), ramp("RdBu"), make("span", { text: `${figures(word.limit)} nats` })),
            make("span", { class: word.negligible ? "ev-legend-part ev-warn" : "ev-legend-part", "data-share": "", text: word.meaning }),
            make("span", { class: "ev-legend-part ev-soft" }, tipped(word.note, word.help), make("span", { text: word.scores }))
          );
        else parts.push(make("span", { class: "ev-legend-part ev-soft", text: word.note || "computing\u2026" }));
      } else {
        const first = result.models[0].maps[view.kind];
        const shared = view.scale === "shared" || Array.isArray(view.scale);
        const limits = Array.isArray(view.scale) ? view.scale : first.limits.shared;
        const ends = shared ? [figures(limits[0]), figures(limits[1])] : ["low", "high"];
        const words = {
          shared: "one scale for all models and layers",
          per_row: "each model has its own scale: compare layers, not models",
          per_map: "each map has its own scale: do not compare colours",
        };
        parts.push(
          make(
            "span",
            { class: "ev-legend-part" },
            make("span", { class: "ev-limit", text: ends[0] }),
            ramp(view.colours),
            make("span", { class: "ev-limit", text: ends[1] }),
            tipped(kind.label, kind.help)
          ),
          make("span", { class: `ev-legend-part ${shared ? "ev-soft" : "ev-warn"}`, "data-scale": "", text: words[view.scale] || "fixed scale" })
        );
      }
      const limit = differenceLimit();
      if (limit)
        parts.push(
          make(
            "span",
            { class: "ev-legend-part ev-end" },
            make("span", { class: "ev-limit", text: figures(-limit) }),
            ramp("RdBu"),
            make("span", { class: "ev-limit", text: figures(limit) }),
            tipped("A \u2212 B", TIPS.difference)
          )
        );
      else if (result.models.length > 1)
        parts.push(make("span", { class: "ev-legend-part ev-soft ev-end", text: "no difference: A and B have other patches or layers" }));
      legend.replaceChildren(...parts);
      const caption = word ? "evidence" : "map";
      for (const tip of rows.querySelectorAll("[data-paint=map] + figcaption .ev-tip")) tip.firstChild.data = caption;
    };
    /** A model's values along the steps; where it has one layer alone, at the step of that depth and nowhere else. */
    const alongSteps = (values, model) => {
      const { layers, n_layer } = result.models[model];
      const longest = result.models.reduce((best, each) => (each.layers.length > best.layers.length ? each : best));
      const depths = longest.layers.map((layer) => Math.abs(layer / longest.n_layer - layers[0] / n_layer));
      const only = layers.length === 1 && steps.length > 1 ? depths.indexOf(Math.min(...depths)) : -1;
      return steps.map((step, at) => {
        const value = values[step[model]];
        return value === null || (only >= 0 && at !== only) ? NaN : value;
      });
    };
    const showCurves = () => {
      const longest = result.models.reduce((best, model) => (model.layers.length > best.layers.length ? model : best));
      const labels = longest.layers.map((layer) => (layer < 0 ? "e" : String(layer)));
      const along = alongSteps;
      const lines = [];
      result.models.forEach((model, index) => {
        lines.push({ name: model.name, short: LETTERS[index], colour: index, values: along(model.scores.r2, index) });
        const held = model.lens_quality.map((quality) => (quality ? quality.r2 : null));
        if (held.some((each) => each !== null))
          lines.push({ name: `${model.name}, lens on held-out images`, short: `${LETTERS[index]} held out`, colour: index, dash: "dotted", values: along(held, index) });
      });
      const low = Math.max(Math.min(0, ...lines.flatMap((line) => line.values).filter(Number.isFinite)), -1);
      retention.set({ lines, labels, low, high: 1 });
      const rs = result.models.map((model, index) => ({
        name: model.name, short: LETTERS[index], colour: index, values: along(model.maps[view.kind].correlation, index),
      })); // prettier-ignore
      const known = rs.some((line) => line.values.some(Number.isFinite));
      fidelityBox.classList.toggle("ev-undefined", !known);
      fidelity.set({ lines: rs, labels, low: Math.min(0, ...rs.flatMap((line) => line.values).filter(Number.isFinite)), high: 1 });
    };

    // ------------------------------------------------------------ answers

    const showAnswers = (models, streaming) => {
      answers.replaceChildren(
        ...models.map((model, index) => {
          const text = make("p", { class: "ev-answer" });
          if (!streaming && model.words && model.words.some((piece) => piece.trim())) {
            let unit = null; // what follows a word without a space stays on its line
            model.words.forEach((piece, at) => {
              const open = (host.attribute && model.live) || (result?.evidence && `${index},${at}` in result.evidence);
              if (!piece.trim() || !open) {
                unit = null;
                return text.append(piece);
              }
              const lead = piece.match(/^\s*/)[0];
              if (lead || !unit) text.append(lead, (unit = make("span", { class: "ev-unit" })));
              unit.append(
                make("button", {
                  type: "button", class: "ev-word", "data-model": String(index), "data-word": String(at), text: piece.trim(),
                  title: "Show the image tokens that this word depends on", onclick: () => attribute(index, at),
                }) // prettier-ignore
              );
              const tail = piece.slice(lead.length).match(/\s*$/)[0];
              if (tail) {
                text.append(tail);
                unit = null;
              }
            });
          } else text.textContent = (model.answer || "").trim() || (streaming ? "" : "(no answer)");
          if (streaming && model.busy) text.append(make("i", { class: "ev-caret" }));
          const head = make("header", {}, dot(index), make("b", { text: model.name }));
          if (!streaming) head.append(make("span", { class: "ev-soft", title: `${TIPS.site} ${model.lens}. ${model.revision}`, text: model.site }));
          return make("article", { class: "ev-card" }, head, text);
        })
      );
      if (!streaming && result) {
        answers.prepend(make("p", { class: "ev-prompt" }, make("span", { class: "ev-soft", text: "Asked: " }), result.prompt));
        for (const { name, message } of result.failed || [])
          answers.append(make("article", { class: "ev-card ev-lost", role: "alert" }, make("header", {}, make("b", { text: name })), make("p", { text: message })));
      }
      if (!streaming && host.attribute && models.some((model) => !model.live))
        answers.append(make("p", { class: "ev-soft", text: "A study is open without its models: words show no evidence." }));
      markWord();
    };
    const markWord = () => {
      for (const button of answers.querySelectorAll(".ev-word"))
        button.setAttribute(
          "aria-pressed",
          String(Boolean(word && Number(button.dataset.model) === word.model && Number(button.dataset.word) === word.index))
        );
    };
    const forget = () => {
      if (word && !word.values.some(Boolean)) host.cancel?.().catch(() => {});
      word = null;
      markWord();
      showLegend();
      invalidate();
    };
    const attribute = async (model, index) => {
      if (word && word.model === model && word.index === index) return forget();
      const asked = generation;
      const text = result.models[model].words[index].trim();
      const mine = { model, index, text, values: result.models.map(() => null), limit: 1, note: "", help: "", scores: "" };
      word = mine;
      markWord();
      showLegend();
      const said = setInterval(async () => {
        const { done, total } = (await host.progress?.().catch(() => null)) || {};
        if (word !== mine || !total || mine.values.some(Boolean)) return;
        mine.note = `measuring\u2026 ${Math.round((100 * done) / total)} %`;
        showLegend();
      }, 700);
      let reply;
      try {
        reply = (result.evidence || {})[`${model},${index}`] || (await host.attribute(model, index));
        if (reply.error) throw new Error(reply.error);
        mine.values = reply.models.map((each) => (each ? floatsOf(each) : null));
        const sizes = mine.values.map((values) => [...(values || [])].map(Math.abs));
        Object.assign(mine, evidenceScale(sizes, reply.scores));
        mine.note = reply.method;
        mine.help = reply.help;
        mine.scores = `log-probability ${reply.scores.map((score, i) => `${LETTERS[i]} ${figures(score, 2)}`).join(", ")}`;
      } catch (error) {
        mine.note = error.message;
      } finally {
        clearInterval(said);
      }
      if (asked !== generation || word !== mine) return;
      showLegend();
      invalidate();
    };

    // ------------------------------------------------------------ inspector

    let strips = [];
    // Where nothing is pointed at, the inspector shows the whole image.
    const everything = () => {
      const [height, width] = result.models[0].grid;
      return { model: 0, region: { top: 0, left: 0, bottom: height - 1, right: width - 1 }, whole: true };
    };
    const chosenNow = () => locked || hovered || everything();
    const showInspector = () => {
      if (!result) return;
      const chosen = chosenNow();
      if (!path || !inspector.querySelector(".ev-strips")) {
        const title = make("b", { class: "ev-inspected" });
        const release = make("button", { type: "button", class: "ev-chip", text: "release \u2715", title: "Release (Esc)", onclick: () => lock(null) });
        const hint = make("p", { class: "ev-soft ev-hint", text: "Point at a patch to see it layer by layer; click to keep it, drag a box for a region." });
        const places = make("div", { class: "ev-strips" });
        strips = result.models.map((model, index) => {
          const canvas = make("canvas", { class: "ev-strip", "aria-label": `${model.name}: decoded pixels of this place at every layer`, role: "img" });
          canvas.addEventListener("click", (event) => {
            const box = canvas.getBoundingClientRect();
            const { perLine, side, high } = stripShape(model, box.width);
            const line = Math.floor((event.clientY - box.top) / high);
            const cell = line * perLine + Math.floor((event.clientX - box.left) / side) - 1;
            const step = steps.findIndex((each) => each[index] === cell);
            if (step >= 0) go({ type: "set", step });
          });
          const read = make("div", { class: "ev-reads" });
          const mark = make("i", { class: "ev-strip-mark" });
          places.append(make("div", { class: "ev-strip-row" }, dot(index), make("div", { class: "ev-strip-box" }, canvas, mark)), read);
          return { canvas, mark, read, boxes: [] };
        });
        const pathBox = make("div", { class: "ev-chart ev-path" });
        inspector.replaceChildren(make("header", {}, title, release), hint, places, pathBox);
        path = chartOf(pathBox, { title: "Map value by layer", tip: TIPS.path, digits: 3 }, (step) => go({ type: "set", step }));
      }
      const { region, model } = chosen;
      const single = region.top === region.bottom && region.left === region.right;
      const extent = `${region.bottom - region.top + 1} \u00d7 ${region.right - region.left + 1} patches`;
      inspector.querySelector(".ev-inspected").textContent = chosen.whole
        ? `Whole image: ${extent}`
        : single
          ? `Patch: row ${region.top}, column ${region.left}`
          : `Region: ${extent}`;
      inspector.classList.toggle("ev-whole", Boolean(chosen.whole));
      inspector.querySelector(".ev-chip").hidden = !locked;
      const longest = result.models.reduce((best, each) => (each.layers.length > best.layers.length ? each : best));
      const lines = [];
      result.models.forEach((each, index) => {
        const there = regionFor(chosen, index);
        if (!there) return;
        const patches = patchesIn(each, there);
        const values = trajectory(each, view.kind, patches);
        lines.push({ name: each.name, short: LETTERS[index], colour: index, values: alongSteps(values, index) });
        if (index === 0) {
          const level = mean(patches.map((patch) => each.maps[view.kind].true[patch]));
          lines.push({ name: "true pixels", short: "true", colour: 6, dash: "dashed", values: steps.map(() => level) });
        }
      });
      path.set({ lines, labels: longest.layers.map((layer) => (layer < 0 ? "e" : String(layer))) });
      path.step(scrubber.step);
      drawStrips();
      if (single && host.words && result.models.some((each) => each.live)) askWords(region.top * result.models[model].grid[1] + region.left, model);
    };
    /** How the cells of a strip are laid out: of about 36 pixels for a patch, as large as there is room for a whole image. */
    const stripShape = (model, width) => {
      const cells = model.layers.length + 1;
      if (locked || hovered) {
        const lines = Math.min(Math.ceil((cells * 36) / width), 3);
        const perLine = Math.ceil(cells / lines);
        const side = Math.min(width / perLine, 44);
        return { lines, perLine, side, high: side };
      }
      const [left, top, right, bottom] = model.extent;
      const tallness = ((bottom - top) * result.image.size[1]) / ((right - left) * result.image.size[0]);
      const around = 160; // pixels of the title, the hint and the curve
      const room = frame.classList.contains("ev-narrow") ? 150 : Math.max((inspector.clientHeight - around) / result.models.length - 8, 50);
      return fitCells(cells, width, room, tallness);
    };
    const drawStrips = () => {
      const chosen = chosenNow();
      result.models.forEach((model, index) => {
        const strip = strips[index];
        const region = regionFor(chosen, index);
        const ratio = Math.min(window.devicePixelRatio || 1, 2);
        const room = Math.max(strip.canvas.clientWidth, 60);
        const { lines, perLine, side, high } = stripShape(model, room);
        const across = region ? region.right - region.left + 1 : 1;
        const down = region ? region.bottom - region.top + 1 : 1;
        strip.canvas.width = Math.round(room * ratio);
        strip.canvas.height = Math.round(lines * high * ratio);
        strip.canvas.style.height = `${lines * high}px`;
        strip.boxes = [];
        const context = strip.canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        if (!region) return;
        const p = model.patch;
        const source = [region.left * p, region.top * p, across * p, down * p];
        const wide = chosen.whole || across >= down ? side - 3 : ((side - 3) * across) / down;
        const tall = chosen.whole ? high - 3 : across >= down ? ((side - 3) * down) / across : side - 3;
        [truths[index], ...pictures[index]].forEach((picture, cell) => {
          const box = [(cell % perLine) * side + 1.5, Math.floor(cell / perLine) * high + 1.5, wide, tall];
          if (picture) context.drawImage(picture, ...source, ...box.map((length) => length * ratio));
          if (cell) strip.boxes.push(box);
        });
      });
      markStrips();
    };
    /** The frame round the current layer's cell. */
    const markStrips = () =>
      strips.forEach(({ mark, boxes }, index) => {
        const box = boxes[indexOf(index)];
        mark.hidden = !box;
        if (!box) return;
        mark.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
        mark.style.width = `${box[2]}px`;
        mark.style.height = `${box[3]}px`;
      });
    const showInspected = () => {
      if (!path) return;
      if (changed === "step") markStrips();
      else drawStrips();
      showWords();
    };
    let asked = null;
    let waiting = 0;
    const askWords = (patch, model) => {
      asked = `${model}:${patch}`;
      if (readings.has(asked)) return showWords();
      clearTimeout(waiting);
      const run = generation;
      // A pointer that passes over many patches asks only where it rests.
      waiting = setTimeout(async () => {
        const key = `${model}:${patch}`;
        if (run !== generation || readings.has(key)) return;
        readings.set(key, "asking");
        try {
          const places = result.models.map((each, index) => {
            const region = index === model ? regionOf(each, patch) : translate(regionOf(result.models[model], patch), result.models[model], each);
            return region ? region.top * each.grid[1] + region.left : null;
          });
          const reply = await host.words(places);
          readings.set(key, reply.error ? { error: reply.error } : reply);
        } catch (error) {
          readings.set(key, { error: error.message });
        }
        if (run === generation) showWords();
      }, locked ? 0 : 120); // prettier-ignore
    };
    const showWords = () => {
      const chosen = chosenNow();
      if (!host.words) return;
      const single = chosen.region.top === chosen.region.bottom && chosen.region.left === chosen.region.right;
      const found = single ? readings.get(asked) : null;
      strips.forEach(({ read }, index) => {
        const model = result.models[index];
        if (!single) return read.replaceChildren();
        if (!model.live) return read.replaceChildren(make("span", { text: "words need the model; a study has none" }));
        const parts = [tipped("reads", TIPS.words)];
        if (!found || found === "asking") parts.push(make("span", { class: "ev-soft", text: "\u2026" }));
        else if (found.error) parts.push(make("span", { class: "ev-soft", text: found.error }));
        else
          for (const [text, share] of (found.models[index] || [])[indexOf(index)] || [])
            parts.push(make("span", { class: "ev-read", style: `--share:${share}`, text: `${text.trim() || "\u2423"} ${percent(share)}` }));
        renew(read, parts);
      });
    };

    // ------------------------------------------------------------ pointer and keys

    const lock = (chosen) => {
      locked = chosen;
      frame.classList.toggle("ev-locked", Boolean(chosen));
      if (!chosen) hovered = null;
      showInspector();
      invalidate();
    };
    const hit = (event) => {
      const canvas = event.target.closest("canvas[data-paint]");
      if (!canvas || !result) return null;
      const box = canvas.getBoundingClientRect();
      const model = Number(canvas.dataset.model);
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      const patch = patchAt(result.models[model], x, y);
      return patch === null ? null : { model, patch, region: regionOf(result.models[model], patch) };
    };
    rows.addEventListener("pointerdown", (event) => {
      const at = hit(event);
      if (!at || event.button !== 0) return;
      drag = { model: at.model, from: at.patch, region: null };
    });
    rows.addEventListener("pointermove", (event) => {
      const at = hit(event);
      if (drag) {
        if (at && at.model === drag.model && (at.patch !== drag.from || drag.region)) {
          drag.region = regionOf(result.models[drag.model], drag.from, at.patch);
          invalidate();
        }
        return;
      }
      const same = at && hovered && at.model === hovered.model && at.patch === hovered.patch;
      if (same || (!at && !hovered)) return;
      hovered = at;
      if (!locked) showInspector();
      invalidate();
    });
    rows.addEventListener("pointerleave", () => {
      if (drag || !hovered) return;
      hovered = null;
      if (!locked) showInspector();
      invalidate();
    });
    const drop = (event) => {
      if (!drag) return;
      const { model, from, region } = drag;
      drag = null;
      if (region) return lock({ model, region, box: true });
      if (event.type === "pointercancel") return;
      const again = locked && !locked.box && locked.model === model && locked.patch === from;
      lock(again ? null : { model, patch: from, region: regionOf(result.models[model], from) });
    };
    document.addEventListener("pointerup", drop);
    document.addEventListener("pointercancel", drop);
    // The wheel belongs to the layers over the pictures and the slider, and to the page elsewhere.
    for (const part of [rows, track])
      part.addEventListener(
        "wheel",
        (event) => {
          if (!result || event.ctrlKey || !(part === track || event.target.closest("canvas"))) return;
          event.preventDefault();
          go({ type: "wheel", delta: event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY });
        },
        { passive: false }
      );
    slider.addEventListener("input", () => go({ type: "set", step: Number(slider.value) }));
    back.addEventListener("click", () => go({ type: "move", by: -1 }));
    next.addEventListener("click", () => go({ type: "move", by: 1 }));
    play.addEventListener("click", () => go({ type: "play" }));
    const keys = (event) => {
      if (!frame.isConnected) return document.removeEventListener("keydown", keys);
      if (!result || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target;
      const typing = target.closest && target.closest("input, textarea, select, [contenteditable], [role=listbox], [role=dialog]");
      const onButton = target.closest && target.closest("button, a, summary");
      if (event.key === "Escape") {
        if (!menu.hidden) return openMenu(false);
        if (locked) return lock(null);
        if (word) return forget();
      }
      if (typing) return;
      const panelAt = target.closest && target.closest("canvas[data-paint]");
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (panelAt && (event.key === "Enter" || (event.shiftKey && arrows[event.key]))) {
        event.preventDefault();
        const model = Number(panelAt.dataset.model);
        const grid = result.models[model];
        const middle = Math.floor(grid.grid[0] / 2) * grid.grid[1] + Math.floor(grid.grid[1] / 2);
        const there = locked && !locked.box ? regionFor(locked, model) : null;
        const from = there ? there.top * grid.grid[1] + there.left : middle;
        const patch = event.key === "Enter" ? from : movePatch(grid, from, ...arrows[event.key]);
        lock({ model, patch, region: regionOf(grid, patch) });
        const value = mapsShown(model).values[patch];
        return tell(`${grid.name}, row ${Math.floor(patch / grid.grid[1])}, column ${patch % grid.grid[1]}: ${figures(value)}`);
      }
      if (event.shiftKey || ((event.key === " " || event.key === "Enter") && onButton)) return;
      const before = scrubber;
      const after = scrub(scrubber, { type: "key", key: event.key });
      const vertical = event.key === "ArrowUp" || event.key === "ArrowDown" || event.key.startsWith("Page");
      if (after === before || (vertical && !frame.contains(target))) return;
      event.preventDefault();
      apply(after);
    };
    document.addEventListener("keydown", keys);
    new ResizeObserver(layout).observe(frame);

    // ------------------------------------------------------------ saving, links, light

    const FORMATS = [
      ["png", "Picture (PNG)"], ["svg", "Drawing (SVG)"], ["pdf", "For print (PDF)"], ["html", "Web page (HTML)"],
      ["zip", "Whole study (ZIP)"],
    ]; // prettier-ignore
    const openMenu = (open) => {
      menu.hidden = !open;
      saving.setAttribute("aria-expanded", String(open));
      if (open) menu.querySelector("button").focus();
      else if (menu.contains(document.activeElement)) saving.focus();
    };
    saving.addEventListener("click", () => openMenu(menu.hidden));
    document.addEventListener("pointerdown", (event) => !saver.contains(event.target) && openMenu(false));
    for (const [format, label] of FORMATS)
      menu.append(make("button", { type: "button", role: "menuitem", tabindex: "-1", "data-format": format, text: label, onclick: () => save(format) }));
    menu.addEventListener("keydown", (event) => {
      const items = [...menu.children];
      const at = items.indexOf(document.activeElement);
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
      if (event.key === "Tab") return openMenu(false);
      if (next === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      items.at(next % items.length).focus();
    });
    const save = async (format) => {
      openMenu(false);
      const label = saving.textContent;
      saving.textContent = "Saving\u2026";
      saving.disabled = true;
      try {
        const reply = await host.save(format, {
          layers: result.models.map((model, index) => model.layers[indexOf(index)]), kind: view.kind, scale: Array.isArray(view.scale) ? view.scale.join(":") : view.scale,
          colours: view.colours, difference: Boolean(differenceLimit()), look: fromLink(toLink(linkedView())),
        }); // prettier-ignore
        if (reply.error) throw new Error(reply.error);
        const address = URL.createObjectURL(new Blob([bytesOf(reply.data)], { type: reply.type }));
        const anchor = make("a", { href: address, download: reply.name });
        frame.append(anchor);
        anchor.click();
        anchor.remove();
        setTimeout(() => URL.revokeObjectURL(address), 10000);
      } catch (error) {
        say(error.message);
      }
      saving.textContent = label;
      saving.disabled = false;
    };
    linker.addEventListener("click", async () => {
      if (!result) return;
      const address = `${location.href.split("#")[0]}#${toLink(linkedView())}`;
      try {
        await navigator.clipboard.writeText(address);
        say("The link is on the clipboard.");
      } catch {
        say(address); // browsers give the clipboard to secure pages only
      }
    });
    theme.addEventListener("click", () => document.body.classList.toggle("dark"));
    new MutationObserver(() => invalidate()).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    let quiet = 0;
    const say = (text) => {
      let toast = frame.querySelector(".ev-toast");
      if (!toast) frame.append((toast = make("div", { class: "ev-toast", role: "status" })));
      toast.textContent = text;
      clearTimeout(quiet);
      quiet = setTimeout(() => toast.remove(), 6000);
    };

    // ------------------------------------------------------------ what the host calls

    const fill = () => {
      const options = (name, entries) => {
        const box = bar.querySelector(`[data-set=${name}]`);
        box.replaceChildren(...entries.map(([value, label]) => make("option", { value, text: label })));
        if (!entries.some(([value]) => value === view[name])) view[name] = entries[0][0];
        box.value = view[name];
      };
      options("kind", result.kinds.map((kind) => [kind.id, kind.name]));
      const scales = [["shared", "one for all"], ["per_row", "each model"], ["per_map", "each map"]]; // prettier-ignore
      if (Array.isArray(view.scale)) scales.push([view.scale, view.scale.join(" to ")]);
      options("scale", scales);
      options("colours", Object.keys(result.tables).filter((name) => name !== "RdBu").map((name) => [name, name]));
      blend.value = String(view.blend);
      smooth.checked = view.smooth;
    };
    const drawn = async (found) => {
      const [photograph, decoded] = await Promise.all([
        pictureOf(found.image.src),
        Promise.all(
          found.models.map((model) => {
            const [height, width] = [model.grid[0] * model.patch, model.grid[1] * model.patch];
            if (model.decoded.encoding === "png") return Promise.all(model.decoded.data.map(pictureOf));
            return model.layers.map((_, i) => canvasOf(opaque(model.decoded.data, 3 * i * height * width, height * width), width, height));
          })
        ),
      ]);
      return { photograph, decoded };
    };
    const apiOf = {
      /** Shows a result; `wanted` is the view of a link, to be restored. */
      async show(payload, wanted = null) {
        const mine = ++generation;
        const found = unpack(payload);
        const { photograph, decoded } = await drawn(found);
        if (mine !== generation) return;
        result = found;
        photo = photograph;
        const canvas = make("canvas");
        canvas.width = photo.naturalWidth;
        canvas.height = photo.naturalHeight;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(photo, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
        fade(pixels.data, result.overlay.greying, result.overlay.lightening);
        context.putImageData(pixels, 0, 0);
        pale = canvas;
        pictures = decoded;
        truths = result.models.map((model) => {
          const [height, width] = [model.grid[0] * model.patch, model.grid[1] * model.patch];
          return canvasOf(opaque(model.truth, 0, height * width), width, height);
        });
        readings = new Map();
        hovered = locked = word = drag = path = null;
        const before = steps.length;
        steps = stepsOf(result.models.map((model) => model.layers));
        if (wanted) restoreLook(wanted);
        const middle = before === steps.length ? scrubber.step : Math.floor((steps.length - 1) / 2);
        scrubber = scrub({ ...scrubber, step: middle }, { type: "count", count: steps.length });
        slider.max = String(steps.length - 1);
        frame.dataset.state = "result";
        veil.replaceChildren();
        fill();
        showRows();
        showAnswers(result.models, false);
        showLegend();
        showCurves();
        showInspector();
        if (result.evidence) for (const key of Object.keys(result.evidence).slice(0, 1)) attribute(...key.split(",").map(Number));
        if (wanted) restorePlace(wanted);
        saver.hidden = !host.save;
        stats.steps.clear();
        invalidate();
      },
      /** Progress: {message, done, total, models: [{name, answer, busy}]}. */
      busy({ message, done, total, models }) {
        frame.dataset.state = "busy";
        frame.classList.toggle("ev-first", !result);
        const share = total ? Math.min(done / total, 1) : null;
        const line = make("div", { class: "ev-progress" + (share === null ? " ev-unknown" : "") }, make("i", { style: share === null ? null : `width:${100 * share}%` }));
        veil.replaceChildren(make("div", { class: "ev-note" }, make("b", { text: message }), line));
        if (!models || !models.length) return;
        showAnswers(models, true);
        const names = models.map((model) => model.name);
        if (!result && rows.dataset.blank !== names.join()) showBlanks(names);
      },
      /** A sentence that says why there is no result. */
      fail(message) {
        frame.dataset.state = result ? "result" : "error";
        const drop = make("button", { type: "button", class: "ev-button", text: result ? "Back to the last result" : "Close", onclick: () => apiOf.calm() });
        veil.replaceChildren(make("div", { class: "ev-note ev-error", role: "alert" }, make("b", { text: "That did not work" }), make("p", { text: message }), drop));
        frame.dataset.failed = "";
        if (result) showAnswers(result.models, false);
      },
      /** A sentence above everything that stays until it is taken back with ""; `stale`: the result is older than the form. */
      notice(text) {
        notice.textContent = text;
        notice.hidden = !text;
      },
      say: (text) => say(text),
      /** The view of a link to the result that is shown; says what it names and is not here. */
      restore(wanted) {
        restoreLook(wanted);
        fill();
        if (word) forget();
        lock(null);
        restorePlace(wanted);
        showLegend();
        showCurves();
        invalidate();
      },
      calm() {
        delete frame.dataset.failed;
        veil.replaceChildren();
        if (!result) return apiOf.empty(host.hint);
        frame.dataset.state = "result";
        showAnswers(result.models, false);
      },
      /** What can be done, before there is a result: a title, and lines that are numbered when they are several. */
      empty(text) {
        frame.dataset.state = "empty";
        const [title, ...lines] = text || ["Bring an image, or take an example, and press Run."];
        const list = lines.length > 1 ? make("ol", {}, ...lines.map((line) => make("li", { text: line }))) : make("p", { text: lines[0] || "" });
        veil.replaceChildren(make("div", { class: "ev-note" }, make("b", { text: title }), list));
      },
      stats,
      get shown() { return generation; },
      get step() { return scrubber.step; },
      get view() { return linkedView(); },
      get result() { return result; },
    }; // prettier-ignore
    const restoreLook = (wanted) => {
      const change = {};
      if (wanted.kind && result.models[0].maps[wanted.kind]) change.kind = wanted.kind;
      if (wanted.colours in result.tables) change.colours = wanted.colours;
      if (["shared", "per_row", "per_map"].includes(wanted.scale)) change.scale = wanted.scale;
      else if (wanted.scale && /^[^:]+:[^:]+$/.test(wanted.scale)) {
        const ends = wanted.scale.split(":").map(Number);
        if (ends.every(Number.isFinite) && ends[0] < ends[1]) change.scale = ends;
      }
      const strength = Number(wanted.blend);
      if (wanted.blend && strength >= 0 && strength <= 1) change.blend = strength;
      if (wanted.smooth) change.smooth = wanted.smooth === "1";
      view = { ...view, ...change };
      const given = { kind: change.kind, colours: change.colours, scale: change.scale, blend: change.blend };
      lostView = Object.keys(given).filter((key) => wanted[key] && given[key] === undefined);
    };
    let lostView = [];
    const restorePlace = (wanted) => {
      const longest = result.models.reduce((best, model) => (model.layers.length > best.layers.length ? model : best));
      const step = wanted.layer === undefined ? -1 : longest.layers.indexOf(Number(wanted.layer));
      if (step >= 0) apply(scrub(scrubber, { type: "set", step }));
      const [height, width] = result.models[0].grid;
      const patch = Number(wanted.patch);
      const edges = (wanted.region || "").split(",").map(Number);
      if (wanted.patch && Number.isInteger(patch) && patch >= 0 && patch < height * width)
        lock({ model: 0, patch, region: regionOf(result.models[0], patch) });
      else if (edges.length === 4 && edges.every(Number.isInteger)) {
        const [top, left, bottom, right] = edges;
        if (0 <= top && top <= bottom && bottom < height && 0 <= left && left <= right && right < width)
          lock({ model: 0, box: true, region: { top, left, bottom, right } });
      }
      const [model, index] = (wanted.word || "").split(",").map(Number);
      if (wanted.layer !== undefined && step < 0) lostView.push("layer");
      if ((wanted.patch || wanted.region) && !locked) lostView.push("patch");
      if (wanted.word) {
        const there = result.models[model]?.words[index] && ((host.attribute && result.models[model].live) || result.evidence);
        if (!there) lostView.push("word");
        else if (!word) attribute(model, index);
      }
      if (lostView.length) say(`Not restored from the link: ${lostView.join(", ")}.`);
    };
    apiOf.empty(host.hint);
    frame.emma = apiOf; // for tests and for other scripts of the page
    return apiOf;
  };

  // ================================================================ figures as pages

  /**
   * Paints a figure's page (emma_viz/render/html.py writes it) from raw values, and links the pointer across all panels
   * of an image.
   *
   * @param page the document
   * @param data `{tables, strength, rise, images: [{scopes}], charts}`, as emma_viz/render/webdata.py makes it
   */
  const sheet = (page, data) => {
    const tables = { map: tableOf(data.tables.map), difference: tableOf(data.tables.difference) };
    for (const panel of page.querySelectorAll("canvas[data-map]")) {
      const { values, limits, grid, table } = sheetMap(data, panel.dataset.map);
      const over = panel.dataset.paint === "overlay";
      const pixels = over ? tint(values, limits, tables[table], data) : paint(values, limits, tables[table]);
      [panel.height, panel.width] = grid;
      panel.getContext("2d").putImageData(new ImageData(pixels, grid[1], grid[0]), 0, 0);
    }
    page.querySelectorAll(".case").forEach((section, image) => probe(section, data, image));
    for (const chart of page.querySelectorAll("svg.chart")) readChart(chart, data.charts[chart.dataset.chart]);
  };

  /** One image of a sheet: a point of it, in fractions, marks the patch of every grid and prints its values. */
  const probe = (section, data, image) => {
    const { scopes } = data.images[image];
    const places = [...section.querySelectorAll("[data-scope]")];
    const readout = section.querySelector(".readout");
    const idle = readout.textContent;
    let pinned = false;
    let current = null;

    const show = (point) => {
      current = point;
      for (const place of places) {
        const scope = scopes[place.dataset.scope];
        const patch = point ? patchAt(scope, point.x, point.y) : null;
        place.classList.toggle("probing", patch !== null);
        for (const slot of place.querySelectorAll("[data-value]")) {
          const value = patch === null ? "" : sheetMap(data, slot.dataset.value).values[patch];
          slot.textContent = patch === null ? "" : Number.isNaN(value) ? "not finite" : figures(value);
        }
        if (patch === null) continue;
        const box = boxOf(scope, regionOf(scope, patch));
        for (const [name, share] of [["--pl", box.x], ["--pt", box.y], ["--pw", box.width], ["--ph", box.height]])
          place.style.setProperty(name, `${100 * share}%`);
      }
      const patch = point ? patchAt(scopes[0], point.x, point.y) : null;
      const columns = scopes[0].grid[1];
      readout.textContent =
        patch === null
          ? idle
          : `Patch in row ${Math.floor(patch / columns)}, column ${patch % columns}: its raw values are below the maps. ` +
            (pinned ? "Pinned; click again to release." : "Click to pin.");
    };
    const pointOf = (panel, event) => {
      const box = panel.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    };
    const move = (dx, dy) => {
      const scope = scopes[0];
      const [left, top, right, bottom] = scope.extent;
      const from = current || { x: (left + right) / 2, y: (top + bottom) / 2 };
      const next = { x: from.x + (dx * (right - left)) / scope.grid[1], y: from.y + (dy * (bottom - top)) / scope.grid[0] };
      if (patchAt(scope, next.x, next.y) !== null) show(next);
    };
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    for (const panel of section.querySelectorAll(".panel")) {
      panel.addEventListener("pointermove", (event) => pinned || show(pointOf(panel, event)));
      panel.addEventListener("pointerleave", () => pinned || show(null));
      panel.addEventListener("click", (event) => {
        pinned = !pinned;
        show(pointOf(panel, event));
      });
      panel.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
          pinned = false;
          show(null);
        } else if (arrows[event.key]) {
          event.preventDefault();
          pinned = true;
          move(...arrows[event.key]);
        }
      });
    }
  };

  /** A curve of a sheet: the layer nearest to the pointer, with every line's value there. */
  const readChart = (chart, curves) => {
    const out = chart.parentElement.querySelector(".chart-values");
    const idle = out.textContent;
    const cross = chart.querySelector(".cross");
    const layers = [...new Set(curves.lines.flatMap((line) => line.points.map((point) => point[0])))];
    const show = (layer) => {
      const x = curves.left + ((layer - curves.first) / (curves.last - curves.first || 1)) * curves.width;
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      chart.classList.add("on");
      const values = curves.lines.flatMap((line) =>
        line.points.filter((point) => point[0] === layer).map((point) => `${line.name} ${fixed(point[1], curves.digits)}`)
      );
      out.textContent = `${curves.relative ? `depth ${layer.toFixed(2)}` : layerLabel(layer)}: ${values.join(", ")}`;
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      show(nearest(layers, curves.first + ((at - curves.left) / curves.width) * (curves.last - curves.first)));
    });
    chart.addEventListener("pointerleave", () => {
      chart.classList.remove("on");
      out.textContent = idle;
    });
  };

  /** Opens a page that was saved with its data inside: a figure's sheet, or the canvas with one view of it. */
  const open = (page) => {
    const data = JSON.parse(page.getElementById("data").textContent);
    if (!data.payload) return sheet(page, data);
    page.body.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
    const onview = (link) => history.replaceState(null, "", `#${link}`);
    const canvas = mount(page.getElementById("canvas"), { onview, context: () => ({ image: data.payload.image.hash }) });
    const view = location.hash.length > 1 ? fromLink(location.hash) : data.view;
    return canvas.show(data.payload, view).catch((error) => canvas.fail(error.message));
  };

  const exported = { core, mount, sheet, open };
  if (typeof module !== "undefined" && module.exports) module.exports = exported;
  else root.EmmaCanvas = exported;
})(typeof globalThis !== "undefined" ? globalThis : this);
