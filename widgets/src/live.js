// What the live widgets share: they draw again when their model changed. Python's half is dspex_lab/widgets/_live.py.
import { html } from "./dom.js";

/** A function that has `draw` called soon: once for all that changes together. */
export function gathered(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => {
      asked = false;
      draw();
    });
  };
}

/** Hide the picture that a saved notebook has of this widget as long as this view of it is there. */
export function instead(model, root) {
  const name = model.get("saved");
  if (/^dspex-saved-\w+$/.test(name)) root.append(html("style", {}, `.${name} { display: none; }`));
}

/** Have a model's `events` (by name) heard; return what ends that. */
export function listen(model, events) {
  for (const [event, does] of Object.entries(events)) model.on(event, does);
  return () => {
    for (const [event, does] of Object.entries(events)) model.off(event, does);
  };
}
