// Keys of a review: each is told to the page, unless somebody types.
const TYPING = "input:not([type=range], [type=checkbox]), textarea, select, [contenteditable]";

export default ({ data, setTriggerValue }) => {
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.(TYPING)) return;
    if (data.keys.includes(event.key)) setTriggerValue("pressed", event.key);
  };
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", press);
};
