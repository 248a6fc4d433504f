// Links between pages are gone as the browser's own forward goes: the page stays, and its script draws the other one.
globalThis.emmaFollows ??= (document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.cb-open");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  dispatchEvent(new PopStateEvent("popstate"));
}), true);
