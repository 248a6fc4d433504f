// What leaves the canvas: saved files, the link to a view, a sentence for some seconds.
"use strict";
const { bytesOf } = require("./core/bytes.js");
const { fromLink, isLinkable, toLink } = require("./core/links.js");
const { differenceLimit, indexOf, linkedView } = require("./core/state.js");
const { linkOf } = require("./drawing.js");
const { make } = require("./view/elements.js");

const FORMATS = [
  ["png", "Picture (PNG)"], ["svg", "Drawing (SVG)"], ["pdf", "For print (PDF)"], ["html", "Web page (HTML)"],
  ["gif", "Layers as a film (GIF)"], ["webp", "Layers as a film (WebP)"],
  ["csv", "Values of this layer (CSV)"], ["npz", "Values of every layer (NPZ)"], ["zip", "Whole study (ZIP)"],
  ["py", "Copy as Python"], ["sh", "Copy as a command line"],
]; // prettier-ignore
const COPIED = { py: "Python", sh: "command line" }; // go to the clipboard; where there is none, they are files
const SAID = 6000; // milliseconds that a sentence stays
const KEPT = 10000; // milliseconds that a file is kept for the browser to fetch

/** Says a sentence for some seconds. */
const say = (stage, text) => {
  const { parts, life } = stage;
  if (life.over) return;
  let toast = parts.frame.querySelector(".ev-toast");
  if (!toast) parts.frame.append((toast = make("div", { class: "ev-toast", role: "status" })));
  toast.textContent = text;
  stage.timers.saying?.();
  stage.timers.saying = life.after(SAID, () => toast.remove());
};

/** Opens or closes the menu of formats. */
const openMenu = ({ parts: { menu, offer, saving } }, open) => {
  offer.hidden = !open;
  saving.setAttribute("aria-expanded", String(open));
  if (open) menu.querySelector("button").focus();
  else if (menu.contains(document.activeElement)) saving.focus();
};

/** What is to be saved: the layers and the look of the view. */
const savedView = (stage) => {
  const { result, view } = stage.state;
  return {
    layers: result.models.map((model, index) => model.layers[indexOf(stage.state, index)]),
    kind: view.kind,
    scale: linkedView(stage.state).scale,
    colours: view.colours,
    difference: Boolean(differenceLimit(stage.state)),
    pair: view.pair,
    look: fromLink(toLink(linkOf(stage))),
  };
};

/** Whether a text is on the clipboard, which browsers give to secure pages only. */
const copied = (text) =>
  navigator.clipboard?.writeText(text).then(
    () => true,
    () => false
  );

const save = async (stage, format) => {
  const { host, life, parts } = stage;
  const { saving, frame } = parts;
  openMenu(stage, false);
  const label = saving.textContent;
  saving.textContent = "Saving\u2026";
  saving.disabled = true;
  try {
    const reply = await host.save(format, savedView(stage));
    if (life.over) return;
    if (reply.error) throw new Error(reply.error);
    if (COPIED[format] && (await copied(new TextDecoder().decode(bytesOf(reply.data)))))
      return say(stage, `The ${COPIED[format]} for this view is on the clipboard.`);
    const anchor = make("a", {
      href: life.address(new Blob([bytesOf(reply.data)], { type: reply.type }), KEPT),
      download: reply.name,
    });
    frame.append(anchor);
    anchor.click();
    anchor.remove();
  } catch (error) {
    say(stage, error.message);
  } finally {
    saving.textContent = label;
    saving.disabled = false;
  }
};

const copyLink = async (stage) => {
  if (!stage.state.result) return;
  const address = `${location.href.split("#")[0]}#${toLink(linkOf(stage))}`;
  say(stage, (await copied(address)) ? "The link is on the clipboard." : address);
};

const walkMenu = (stage, event) => {
  const items = [...stage.parts.menu.children];
  const at = items.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") return openMenu(stage, false);
  if (next === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  items.at(next % items.length).focus();
};

/** Makes the buttons of the bar work, as long as the canvas lives. */
const offerSaving = (stage) => {
  const { menu, offer, saving, saver, linker, theme } = stage.parts;
  saving.addEventListener("click", () => openMenu(stage, offer.hidden));
  stage.life.listen(document, "pointerdown", (event) => {
    if (!saver.contains(event.target)) openMenu(stage, false);
    if (!stage.parts.keyed.contains(event.target)) stage.act.openKeys(false);
    if (!stage.parts.runs.contains(event.target)) stage.act.openRuns(false);
  });
  for (const [format, label] of FORMATS)
    menu.append(
      make("button", {
        type: "button",
        role: "menuitem",
        tabindex: "-1",
        "data-format": format,
        text: label,
        onclick: () => save(stage, format),
      })
    );
  menu.addEventListener("keydown", (event) => walkMenu(stage, event));
  linker.addEventListener("click", () => copyLink(stage));
  linker.hidden = !isLinkable(location.href);
  theme.addEventListener("click", () => document.body.classList.toggle("dark"));
};

module.exports = { offerSaving, openMenu, say };
