"""The canvas's modules, joined into one script: a page needs one hash, no library, no request and no build step."""

from functools import cache
from importlib import resources

_LOADER = """const loaded = {};
const load = (address) => {
  const name = address.split("/").pop();
  if (!(name in loaded)) {
    loaded[name] = { exports: {} };
    modules[name](loaded[name], load);
  }
  return loaded[name].exports;
};
globalThis.EmmaCanvas = load("canvas.js");
"""
"""What `require` is in a page: a module runs when it is first asked for, by the last part of its address."""


@cache
def canvas_script() -> str:
    """The script that defines `EmmaCanvas`: {core, mount, sheet, open}.

    Every module under `canvas/` stands in a function of its own, as in Node, where the same files run unjoined.
    """
    folder = resources.files("emma_viz.render") / "canvas"
    files = [file for place in (folder / "core", folder / "view", folder) for file in place.iterdir()]
    sources = {file.name: file.read_text("utf-8") for file in files if file.name.endswith(".js")}
    modules = ",\n".join(f'"{name}": (module, require) => {{\n{sources[name]}}}' for name in sorted(sources))
    return f'"use strict";\n(() => {{\nconst modules = {{\n{modules}\n}};\n{_LOADER}}})();\n'


@cache
def canvas_style() -> str:
    """The style of the canvas; `.dark` on any ancestor is its dark form."""
    return (resources.files("emma_viz.render") / "canvas" / "canvas.css").read_text("utf-8")
