// A line chart over the steps, which follows the pointer and hands on a click.
"use strict";
const { axesOf, rangeOf } = require("../core/lines.js");
const { figures, fixed } = require("../core/numbers.js");
const { make, renew, svg, tipped } = require("./elements.js");

const grid = (axes, ticks) => {
  const nodes = [];
  const named = [];
  for (const level of ticks) {
    const y = axes.y(level);
    nodes.push(svg("line", { x1: axes.left, x2: axes.width - axes.right, y1: y, y2: y, class: "ev-grid" }));
    if (named.some((other) => Math.abs(other - y) < 11)) continue; // no room for its number
    named.push(y);
    nodes.push(svg("text", { x: axes.left - 5, y: y + 3.5, "text-anchor": "end" }, figures(level, 2)));
  }
  return nodes;
};

const names = (axes, labels) => {
  const each = Math.ceil(labels.length / Math.max(Math.floor((axes.width - axes.left) / 34), 1));
  return labels.flatMap((label, step) =>
    step % each ? [] : [svg("text", { x: axes.x(step), y: axes.height - 4, "text-anchor": "middle" }, label)]
  );
};

const curve = (axes, { values, dash, colour }) => {
  const style = `--c:var(--ev-m${colour})`;
  const points = values.map((level, step) => [axes.x(step), axes.y(level), level]).filter((p) => Number.isFinite(p[2]));
  const shape = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const nodes = [];
  if (points.length === 1 && dash)
    nodes.push(svg("circle", { cx: points[0][0], cy: points[0][1], r: 3, class: "ev-line", style }));
  nodes.push(svg("polyline", { points: shape, class: `ev-line ${dash || ""}`, style }));
  if (dash) return nodes;
  for (const [x, y] of points)
    nodes.push(
      colour % 2
        ? svg("rect", { x: x - 2.2, y: y - 2.2, width: 4.4, height: 4.4, class: "ev-dot", style })
        : svg("circle", { cx: x, cy: y, r: 2.4, class: "ev-dot", style })
    );
  return nodes;
};

const key = ({ short, values, dash, colour }, step, digits) =>
  make("span", {
    class: `ev-key ${dash || ""}`,
    style: `--c:var(--ev-m${colour})`,
    text: `${short} ${fixed(values[step], digits)}`,
  });

/**
 * A chart in a place of the page: `set({lines, labels, low, high})`, `step(step)`, `end()`.
 *
 * @param words {title, tip, digits}; @param choose called with the step that is clicked
 * @param life keeps what the chart holds outside its element
 */
const chartOf = (place, { title, tip, digits = 2 }, choose, life) => {
  const value = make("span", { class: "ev-chart-value" });
  const frame = svg("svg", { class: "ev-chart-svg", role: "img" });
  // Beside the drawing and not in it: to move a line of an SVG lays out every text in it again.
  const cursor = make("i", { class: "ev-cursor", hidden: true });
  const holder = make("div", { class: "ev-chart-plot" }, cursor, frame);
  const head = make("div", { class: "ev-chart-head" }, tipped(title, tip), value);
  place.replaceChildren(head, holder);
  const shown = { data: null, axes: null, current: 0, hovered: null };

  const mark = () => {
    const { data, axes } = shown;
    if (!data || !axes) return;
    const step = shown.hovered ?? shown.current;
    cursor.hidden = false;
    cursor.style.transform = `translateX(${axes.x(step)}px)`;
    tell(data, step);
  };
  const tell = (data, step) =>
    renew(value, data.lines.filter((line) => line.dash !== "dashed").map((line) => key(line, step, digits))); // prettier-ignore
  const draw = () => {
    const { data } = shown;
    if (!data) return;
    // Numbers that do not stand beside the title in one row have two, at the cost of the drawing's height.
    tell(data, shown.current);
    head.classList.remove("ev-many");
    head.classList.toggle("ev-many", value.scrollWidth > value.clientWidth + 1);
    const axes = axesOf({ ...data, count: data.labels.length }, holder.clientWidth || 300, holder.clientHeight || 90);
    shown.axes = axes;
    frame.setAttribute("viewBox", `0 0 ${axes.width} ${axes.height}`);
    frame.setAttribute("aria-label", data.spoken);
    cursor.style.top = `${axes.top}px`;
    cursor.style.bottom = `${axes.bottom}px`;
    frame.replaceChildren(
      ...grid(axes, data.ticks),
      ...names(axes, data.labels),
      ...data.lines.flatMap((line) => curve(axes, line))
    );
    mark();
  };
  const hover = (step) => {
    shown.hovered = step;
    mark();
  };
  const stepAt = (event) => {
    const box = frame.getBoundingClientRect();
    return shown.axes.stepAt((event.clientX - box.left) / box.width);
  };
  holder.addEventListener("pointermove", (event) => shown.data && hover(stepAt(event)));
  holder.addEventListener("pointerleave", () => hover(null));
  holder.addEventListener("click", (event) => shown.data && choose(stepAt(event)));
  return {
    set(next) {
      const spoken =
        `${title}. ` +
        next.lines.map((line) => `${line.name}: ${line.values.map((v) => fixed(v, digits)).join(", ")}`).join(". ");
      shown.data = { ...next, ...rangeOf(next), spoken };
      draw();
    },
    step(step) {
      shown.current = step;
      mark();
    },
    end: life.observe(new ResizeObserver(draw), holder),
  };
};

module.exports = { chartOf };
