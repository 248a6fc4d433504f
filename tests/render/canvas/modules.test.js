// The modules: each runs by itself, and they need one another in one direction.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");

const ROOT = path.join(__dirname, "../../../emma_viz/render/canvas");
const ROOMS = ["core", "view", "."]; // each may need itself and those before it
const needs = Object.fromEntries(
  ROOMS.flatMap((room) =>
    fs.readdirSync(path.join(ROOT, room)).filter((name) => name.endsWith(".js")).map((name) => {
      const text = fs.readFileSync(path.join(ROOT, room, name), "utf8");
      const found = [...text.matchAll(/require\("(.*?)"\)/g)].map(([, address]) => path.join(room, address));
      return [path.join(room, name), found];
    })
  )
); // prettier-ignore
const roomOf = (name) => ROOMS.indexOf(path.dirname(name));

test("a page finds a module by its name alone: names stand once", () => {
  const names = Object.keys(needs).map((name) => path.basename(name));
  assert.ok(names.length > 20);
  assert.deepEqual(names, [...new Set(names)]);
});

test("core needs core, views need views and core, and nothing needs itself through others", () => {
  const seen = new Set();
  const visit = (name, above) => {
    assert.ok(name in needs, `${above.at(-1)} needs ${name}, which is not there`);
    assert.ok(!above.includes(name), `a circle: ${[...above, name].join(" → ")}`);
    if (seen.has(name)) return;
    for (const other of needs[name]) {
      assert.ok(roomOf(other) <= roomOf(name), `${name} needs ${other}, which lies above it`);
      visit(other, [...above, name]);
    }
    seen.add(name);
  };
  for (const name of Object.keys(needs)) visit(name, []);
});

test("every module is strict and can be loaded without a page", () => {
  for (const name of Object.keys(needs)) {
    assert.match(fs.readFileSync(path.join(ROOT, name), "utf8"), /^(\/\/.*\n)+"use strict";\n/);
    assert.ok(Object.keys(require(path.join(ROOT, name))).length, name);
  }
});
