// What a mounted canvas holds outside its element: listeners, observers, timers, frames. All of it can be given back.
"use strict";

/**
 * A keeper of what must end with the canvas. Each method returns a function that ends it before; after `end()` nothing
 * more is begun.
 */
const lifetime = () => {
  const held = new Set();
  let over = false;
  const keep = (begin, finish) => {
    if (over) return () => {};
    const end = () => held.delete(end) && finish(token);
    held.add(end);
    const token = begin(() => held.delete(end));
    return end;
  };
  return {
    get over() {
      return over;
    },
    listen: (target, type, handler, options) =>
      keep(
        () => target.addEventListener(type, handler, options),
        () => target.removeEventListener(type, handler, options)
      ),
    observe: (observer, target, options) =>
      keep(
        () => observer.observe(target, options),
        () => observer.disconnect()
      ),
    after: (wait, act) => keep((done) => setTimeout(() => (done(), act()), wait), clearTimeout),
    every: (wait, act) => keep(() => setInterval(act, wait), clearInterval),
    frame: (act) => keep((done) => requestAnimationFrame((now) => (done(), act(now))), cancelAnimationFrame),
    /** An address of bytes, which holds for `wait` milliseconds. */
    address: (blob, wait) => {
      const made = URL.createObjectURL(blob);
      const revoke = () => URL.revokeObjectURL(made);
      keep(
        (done) => setTimeout(() => (done(), revoke()), wait),
        (timer) => (clearTimeout(timer), revoke())
      );
      return made;
    },
    end() {
      over = true;
      for (const each of [...held]) each();
    },
  };
};

module.exports = { lifetime };
