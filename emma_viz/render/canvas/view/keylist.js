// The list of keys, behind a button of the bar and the key "?".
"use strict";
const { make } = require("./elements.js");

const KEYS = [
  [["\u2190", "\u2192"], "the layer before, the next one"],
  [["Page Up", "Page Down"], "four layers at once, with the focus on the canvas"],
  [["Home", "End"], "the first layer, the last one"],
  [["Space"], "play through the layers, and stop"],
  [["Enter"], "keep a patch of the picture that has the focus"],
  [["Shift", "arrow"], "move the patch that is kept"],
  [["[", "]"], "the run before, the next one"],
  [["Esc"], "close a menu, release the patch, back from a word to the maps"],
  [["?"], "this list"],
];

const rowOf = ([keys, meaning]) => [
  make("dt", {}, ...keys.map((key) => make("kbd", { text: key }))),
  make("dd", { text: meaning }),
];

/** The button and the list that it opens: {asker, keylist, keyed}. */
const keylistOf = (act) => {
  const keylist = make(
    "div",
    { class: "ev-menu ev-keylist", role: "group", "aria-label": "Keys", hidden: true },
    make("dl", {}, ...KEYS.flatMap(rowOf))
  );
  const asker = make("button", {
    type: "button",
    class: "ev-button ev-icon",
    "aria-label": "Keys",
    "aria-expanded": "false",
    title: "Keys (?)",
    text: "?",
    onclick: () => act.openKeys(keylist.hidden),
  });
  return { asker, keylist, keyed: make("div", { class: "ev-saver ev-keyed" }, asker, keylist) };
};

/** Opens or closes the list. */
const openKeys = ({ parts: { asker, keylist } }, open) => {
  keylist.hidden = !open;
  asker.setAttribute("aria-expanded", String(open));
  if (open) asker.focus();
};

module.exports = { keylistOf, openKeys };
