// A view as the fragment of an address.
"use strict";

const LINKED = ["image", "models", "prompt", "lens", "site", "layer", "kind", "scale", "colours", "blend",
  "smooth", "order", "pair", "patch", "region", "word", "evidence", "tokens"]; // prettier-ignore

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

/** Whether a page at this address can be linked to: one inside a notebook's frame (about:srcdoc) has none of its own. */
const isLinkable = (address) => !/^(about|blob|data):/.test(address);

module.exports = { toLink, fromLink, isLinkable };
