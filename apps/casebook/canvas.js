// Mounts the canvas for a case, shows another one in its place, and takes it away with the case.
const held = new WeakMap();

const mounted = (place) => {
  const onview = (link) => history.replaceState(history.state, "", `${location.pathname}${location.search}#${link}`);
  const canvas = EmmaCanvas.mount(place, { onview });
  const found = { canvas, stamp: null };
  held.set(place, found);
  return found;
};

export default ({ data, parentElement }) => {
  const place = parentElement.querySelector(".cb-canvas");
  document.body.classList.toggle("dark", data.dark);
  const found = held.get(place) ?? mounted(place);
  if (found.stamp !== data.stamp) {
    found.stamp = data.stamp;
    const view = location.hash.length > 1 ? EmmaCanvas.core.fromLink(location.hash) : {};
    found.canvas.update(data.payload, view).catch((error) => found.canvas.fail(error.message));
  }
  return () => {
    held.delete(place);
    found.canvas.destroy();
  };
};
