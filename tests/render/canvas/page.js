// A page without a browser: as much of one as the canvas asks for, and a count of what it holds of it.
"use strict";

/** What is held outside elements, by name: listeners of the document and the window, observers, timers, frames. */
const held = new Map();
const more = (what, by) => held.set(what, (held.get(what) || 0) + by);

const listening = (name) => {
  const acts = new Map();
  const listenersOf = (type) => acts.get(type) || acts.set(type, new Set()).get(type);
  return {
    addEventListener(type, act) {
      listenersOf(type).add(act);
      if (name) more(name, 1);
    },
    removeEventListener(type, act) {
      if (listenersOf(type).delete(act) && name) more(name, -1);
    },
    send(type, more = {}) {
      const event = { type, target: this, button: 0, preventDefault: () => {}, stopPropagation: () => {}, ...more };
      for (let node = this; node; node = node.parent ?? (node.isConnected ? document : null))
        for (const act of node.listenersOf(type)) act(event);
    },
    listenersOf,
  };
};

// One compound of a selector: tag, #id, .class, [attribute] and [attribute=value], in any number.
const COMPOUND = /^([a-z]+)?((?:[.#][\w-]+|\[[\w-]+(?:="?[^"\]]*"?)?\])*)$/;
const matches = (node, compound) => {
  if (compound === ":scope") return true;
  const [, tag, rest] = compound.match(COMPOUND);
  if (tag && node.tag !== tag) return false;
  return (rest.match(/[.#][\w-]+|\[[^\]]+\]/g) || []).every((part) => {
    if (part[0] === ".") return node.classList.contains(part.slice(1));
    if (part[0] === "#") return node.getAttribute("id") === part.slice(1);
    const [, name, , value] = part.match(/\[([\w-]+)(="?([^"\]]*)"?)?\]/);
    return value === undefined ? node.getAttribute(name) !== null : node.getAttribute(name) === value;
  });
};
const fits = (node, steps) => {
  if (!node || !matches(node, steps.at(-1))) return false;
  if (steps.length === 1) return true;
  const joint = [">", "+"].includes(steps.at(-2)) ? steps.at(-2) : " ";
  const before = steps.slice(0, joint === " " ? -1 : -2);
  if (joint === ">") return before.at(-1) === ":scope" || fits(node.parent, before);
  if (joint === "+") return fits(node.parent?.childNodes[node.parent.childNodes.indexOf(node) - 1], before);
  for (let above = node.parent; above; above = above.parent) if (fits(above, before)) return true;
  return false;
};
const fitsAny = (node, selector) => selector.split(",").some((each) => fits(node, each.trim().split(/\s+/)));

class Text {
  constructor(data) {
    this.data = String(data);
  }
  get textContent() {
    return this.data;
  }
  isEqualNode(other) {
    return this.data === other.data;
  }
}

const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
const datasetOf = (node) =>
  new Proxy({}, {
    get: (_, key) => node.getAttribute(`data-${key}`) ?? undefined,
    set: (_, key, value) => (node.setAttribute(`data-${key}`, value), true),
    deleteProperty: (_, key) => node.attributes.delete(`data-${key}`) || true,
  }); // prettier-ignore

class Element {
  constructor(tag) {
    Object.assign(this, listening(null), { tag, attributes: new Map(), childNodes: [], parent: null });
    this.dataset = datasetOf(this);
    this.style = { setProperty: (name, value) => (this.style[camel(name)] = value) };
    this.classList = {
      contains: (name) => (this.getAttribute("class") || "").split(" ").includes(name),
      toggle: (name, on = !this.classList.contains(name)) => {
        const names = (this.getAttribute("class") || "").split(" ").filter((each) => each !== name);
        this.setAttribute("class", (on ? [...names, name] : names).join(" "));
      },
      remove: (name) => this.classList.toggle(name, false),
    };
    Object.assign(this, { clientWidth: 1000, clientHeight: 800, offsetHeight: 30, width: 300, height: 150, value: "" });
  }
  setAttribute(name, value) {
    this.attributes.set(name, String(value));
    if (["value", "hidden"].includes(name)) this[name] = name === "hidden" || String(value);
  }
  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }
  append(...nodes) {
    for (const node of nodes.map((each) => (typeof each === "string" ? new Text(each) : each))) {
      node.parent?.childNodes.splice(node.parent.childNodes.indexOf(node), 1);
      node.parent = this;
      this.childNodes.push(node);
    }
  }
  replaceChildren(...nodes) {
    for (const node of this.childNodes) node.parent = null;
    this.childNodes = [];
    this.append(...nodes);
  }
  replaceWith(node) {
    this.parent.childNodes[this.parent.childNodes.indexOf(this)] = node;
    [node.parent, this.parent] = [this.parent, null];
  }
  remove() {
    if (this.parent) this.parent.childNodes.splice(this.parent.childNodes.indexOf(this), 1);
    this.parent = null;
  }
  get children() {
    return this.childNodes.filter((node) => node instanceof Element);
  }
  get firstChild() {
    return this.childNodes[0];
  }
  get isConnected() {
    return this === document.body || Boolean(this.parent?.isConnected);
  }
  get textContent() {
    return this.childNodes.map((node) => node.textContent).join("");
  }
  set textContent(text) {
    this.replaceChildren(text);
  }
  isEqualNode(other) {
    return this === other;
  }
  contains(node) {
    return node === this || Boolean(node?.parent && this.contains(node.parent));
  }
  closest(selector) {
    return fitsAny(this, selector) ? this : (this.parent?.closest(selector) ?? null);
  }
  querySelectorAll(selector) {
    return this.children.flatMap((node) => [
      ...(fitsAny(node, selector) ? [node] : []),
      ...node.querySelectorAll(selector),
    ]);
  }
  querySelector(selector) {
    return this.querySelectorAll(selector)[0] ?? null;
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: 100, height: 100 };
  }
  focus() {
    document.activeElement = this;
  }
  getContext() {
    const image = (_x, _y, width, height) => ({ data: new Uint8ClampedArray(4 * width * height) });
    const draw = () => {};
    return {
      canvas: this,
      drawImage: draw,
      putImageData: draw,
      clearRect: draw,
      setLineDash(pattern) {
        this.pattern = pattern;
      },
      strokeRect() {
        if (this.pattern?.length) this.canvas.dashes = (this.canvas.dashes || 0) + 1;
      },
      getImageData: image,
    };
  }
}

const observer = (name) =>
  class {
    observe() {
      more(name, 1);
      this.on = (this.on || 0) + 1;
    }
    disconnect() {
      more(name, -(this.on || 0));
      this.on = 0;
    }
  };

/** Counts what is begun and has neither run nor been ended. */
const counted = (begin, end, first, last, again = false) => {
  const on = new Set();
  const ended = (token) => on.delete(token) && more(begin, -1);
  globalThis[begin] = (act, ...given) => {
    const token = first(
      (...told) => {
        if (!again) ended(token);
        act(...told);
      },
      ...given
    );
    on.add(token);
    more(begin, 1);
    return token;
  };
  globalThis[end] = (token) => {
    ended(token);
    last(token);
  };
};

class Image {
  naturalWidth = 4;
  naturalHeight = 3;
  set src(_address) {
    queueMicrotask(() => this.onload());
  }
}

/** Makes the page, as global names; gives {document, held}: what is held by name, where it is not nothing. */
const makePage = () => {
  const { setTimeout: wait, clearTimeout: unwait, setInterval: repeat, clearInterval: unrepeat } = globalThis;
  counted("setTimeout", "clearTimeout", wait, unwait);
  counted("setInterval", "clearInterval", repeat, unrepeat, true);
  counted("requestAnimationFrame", "cancelAnimationFrame", (act) => wait(() => act(performance.now()), 1), unwait);
  globalThis.document = {
    ...listening("document"),
    createElement: (tag) => new Element(tag),
    createElementNS: (_space, tag) => new Element(tag),
    activeElement: null,
  };
  document.body = new Element("body");
  globalThis.window = { ...listening("window"), innerWidth: 1400, innerHeight: 900, devicePixelRatio: 1 };
  globalThis.ImageData = class {};
  globalThis.location = { href: "file:///page.html" };
  Object.assign(globalThis, {
    Image,
    ResizeObserver: observer("ResizeObserver"),
    MutationObserver: observer("MutationObserver"),
  });
  return { document, held: () => Object.fromEntries([...held].filter(([, count]) => count)) };
};

module.exports = { makePage };
