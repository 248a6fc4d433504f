// Paints the maps from their raw values and links the pointer across all panels of an image. No requests, no library.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const minus = (text) => text.replace("-", "\u2212");
  const figures = (value) => minus(Number(value.toPrecision(3)).toString());

  const table = (hex) => Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.substr(2 * i, 2), 16));
  const tables = { map: table(data.tables.map), difference: table(data.tables.difference) };

  // A path such as "0/1/4" is image / scope / layer; see html.py.
  const mapAt = (path) => {
    const [image, scope, layer] = path.split("/");
    const found = data.images[image].scopes[scope];
    return { scope: found, map: found.maps[layer] };
  };

  const paint = (canvas) => {
    const { scope, map } = mapAt(canvas.dataset.map);
    const colours = tables[scope.table];
    const overlay = canvas.dataset.paint === "overlay";
    const [rows, columns] = scope.grid;
    const [low, high] = map.limits;
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    map.values.forEach((value, i) => {
      if (value === null) return; // not finite: left transparent
      const level = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0;
      const entry = 3 * Math.round(level * 255);
      picture.data.set(colours.subarray(entry, entry + 3), 4 * i);
      picture.data[4 * i + 3] = overlay ? Math.round(255 * data.strength * Math.pow(level, data.rise)) : 255;
    });
    context.putImageData(picture, 0, 0);
  };
  document.querySelectorAll("canvas[data-map]").forEach(paint);

  // A probe is a point of the image, as fractions; every scope turns it into the patch of its own grid.
  const patchAt = (scope, point) => {
    const [left, top, right, bottom] = scope.extent;
    const [rows, columns] = scope.grid;
    const column = Math.floor(((point.x - left) / (right - left)) * columns);
    const row = Math.floor(((point.y - top) / (bottom - top)) * rows);
    return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
  };

  document.querySelectorAll(".case").forEach((section, image) => {
    const scopes = data.images[image].scopes;
    const places = [...section.querySelectorAll("[data-scope]")];
    const readout = section.querySelector(".readout");
    const idle = readout.textContent;
    let pinned = false;
    let current = null;

    const show = (point) => {
      current = point;
      for (const place of places) {
        const scope = scopes[place.dataset.scope];
        const patch = point && patchAt(scope, point);
        place.classList.toggle("probing", Boolean(patch));
        place.querySelectorAll("[data-value]").forEach((slot) => {
          const value = patch && mapAt(slot.dataset.value).map.values[patch.row * scope.grid[1] + patch.column];
          slot.textContent = patch ? (value === null ? "not finite" : figures(value)) : "";
        });
        if (!patch) continue;
        const [left, top, right, bottom] = scope.extent;
        const [rows, columns] = scope.grid;
        const width = (right - left) / columns;
        const height = (bottom - top) / rows;
        place.style.setProperty("--pl", `${100 * (left + patch.column * width)}%`);
        place.style.setProperty("--pt", `${100 * (top + patch.row * height)}%`);
        place.style.setProperty("--pw", `${100 * width}%`);
        place.style.setProperty("--ph", `${100 * height}%`);
      }
      const patch = point && patchAt(scopes[0], point);
      readout.textContent = patch
        ? `Patch in row ${patch.row}, column ${patch.column}: its raw values are below the maps. ` +
          (pinned ? "Pinned; click again to release." : "Click to pin.")
        : idle;
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
      if (patchAt(scope, next)) show(next);
    };
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

    section.querySelectorAll(".panel").forEach((panel) => {
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
    });
  });

  // Curves: the nearest layer under the pointer, with every line's value there.
  document.querySelectorAll("svg.chart").forEach((chart) => {
    const curves = data.charts[chart.dataset.chart];
    const out = chart.parentElement.querySelector(".chart-values");
    const idle = out.textContent;
    const cross = chart.querySelector(".cross");
    const layers = [...new Set(curves.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
    const show = (layer) => {
      const x = curves.left + ((layer - curves.first) / (curves.last - curves.first || 1)) * curves.width;
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      chart.classList.add("on");
      const values = curves.lines.flatMap((line) =>
        line.points.filter((point) => point[0] === layer).map((point) => `${line.name} ${minus(point[1].toFixed(curves.digits))}`)
      );
      const where = curves.relative ? `depth ${layer.toFixed(2)}` : layer < 0 ? "embedding" : `layer ${layer}`;
      out.textContent = `${where}: ${values.join(", ")}`;
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const layer = curves.first + ((at - curves.left) / curves.width) * (curves.last - curves.first);
      show(layers.reduce((best, each) => (Math.abs(each - layer) < Math.abs(best - layer) ? each : best)));
    });
    chart.addEventListener("pointerleave", () => {
      chart.classList.remove("on");
      out.textContent = idle;
    });
  });
})();
