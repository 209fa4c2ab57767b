// A window onto a drawing that may be larger than it: drag to move, buttons and keys to zoom, Ctrl or ⌘ with the wheel too.
import { html, set, svg } from "./dom.js";

export const LEAST = 0.1;
export const MOST = 3;
const STEP = 1.25;
const DRAG = 4; // pixels a pointer moves before it drags; less is a click

const between = (value, least, most) => Math.min(Math.max(value, least), Math.max(least, most));

/** The view {x, y, scale} that shows all of a drawing of that size in a window of that size, never enlarged; pure. */
export function fit(drawing, room) {
  const scale = between(Math.min(room.width / drawing.width, room.height / drawing.height, 1) || 1, LEAST, 1);
  return { x: Math.max((room.width - drawing.width * scale) / 2, 0), y: 0, scale };
}

/** The view zoomed by `factor`, with the point `at` of the window staying where it is; pure. */
export function zoom(view, factor, at) {
  const scale = between(view.scale * factor, LEAST, MOST);
  const by = scale / view.scale;
  return { x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by, scale };
}

/** The view with some of the drawing always left in the window; pure. */
export function held(view, drawing, room) {
  const keep = 60;
  const axis = (at, size, space) => between(at, Math.min(keep - size * view.scale, 0), Math.max(space - keep, 0));
  return { ...view, x: axis(view.x, drawing.width, room.width), y: axis(view.y, drawing.height, room.height) };
}

/**
 * Make a window at most `tallest` pixels high. Returns {element, canvas, close}; draw into `canvas`, in the drawing's own
 * coordinates.
 */
export function makeViewport(drawing, label, tallest = 560) {
  const canvas = svg("g");
  const picture = svg("svg", { class: "dspex-canvas", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" }, canvas);
  const button = (name, sign, act) => {
    const made = html("button", { type: "button", "aria-label": name, title: name }, sign);
    made.addEventListener("click", act);
    return made;
  };
  const tools = html(
    "div", { class: "dspex-tools", role: "toolbar", "aria-label": "Zoom" },
    button("Zoom in", "+", () => by(STEP)), button("Zoom out", "−", () => by(1 / STEP)),
    button("Show all", "⤢", () => all()), button("Actual size", "1:1", () => move({ x: 0, y: 0, scale: 1 })),
  );
  const root = html("div", { class: "dspex-window" }, picture, tools);
  let view = { x: 0, y: 0, scale: 1 };
  let touched = false;

  const room = () => ({ width: picture.clientWidth || drawing.width, height: picture.clientHeight || drawing.height });
  function move(next) {
    touched = true;
    put(held(next, drawing, room()));
  }
  function put(next) {
    view = next;
    set(canvas, "transform", `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.scale.toFixed(4)})`);
  }
  const by = (factor, at = { x: room().width / 2, y: room().height / 2 }) => move(zoom(view, factor, at));
  const all = () => { touched = true; put(fit(drawing, room())); };

  /** Begin readable: as wide as the window, but text not below 7 pixels or so; what does not fit is a drag away. */
  function begin() {
    const width = root.clientWidth || drawing.width;
    const scale = between(Math.min(width / drawing.width, 1), 0.6, 1);
    picture.style.height = `${Math.ceil(Math.min(drawing.height * scale, tallest))}px`;
    put({ x: 0, y: 0, scale });
  }

  let from = null;
  picture.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = { x: event.clientX, y: event.clientY, view, dragging: false };
  });
  picture.addEventListener("pointermove", (event) => {
    if (from && !event.buttons) release(); // let go outside the window
    if (!from) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!from.dragging && Math.hypot(dx, dy) < DRAG) return;
    if (!from.dragging) picture.setPointerCapture?.(event.pointerId);
    from.dragging = true;
    root.classList.add("dspex-dragging");
    move({ ...from.view, x: from.view.x + dx, y: from.view.y + dy });
  });
  const release = () => {
    const dragged = from?.dragging;
    from = null;
    root.classList.remove("dspex-dragging");
    return dragged;
  };
  let swallow = false;
  picture.addEventListener("pointerup", () => { swallow = Boolean(release()); });
  picture.addEventListener("pointercancel", release);
  // The click that ends a drag chooses nothing.
  picture.addEventListener("click", (event) => { if (swallow) event.stopPropagation(); swallow = false; }, true);
  picture.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const frame = picture.getBoundingClientRect();
    by(Math.exp(-event.deltaY / 300), { x: event.clientX - frame.left, y: event.clientY - frame.top });
  }, { passive: false });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { "+": () => by(STEP), "=": () => by(STEP), "-": () => by(1 / STEP), 0: all }[event.key];
    if (!act) return;
    act();
    event.preventDefault();
    event.stopPropagation();
  });

  /** Bring a box into the window, for those who walk by keyboard. */
  function reveal(place) {
    const space = room();
    const [x, y] = [view.x + place.x * view.scale, view.y + place.y * view.scale];
    const [w, h] = [place.width * view.scale, place.height * view.scale];
    const into = (at, size, most) => (at < 0 ? 8 - at : at + size > most ? Math.max(most - 8 - at - size, 8 - at) : 0);
    const [dx, dy] = [into(x, w, space.width), into(y, h, space.height)];
    if (dx || dy) move({ ...view, x: view.x + dx, y: view.y + dy });
  }

  begin();
  // A view is made before it stands in the page, and a cell's width changes; whoever has moved it keeps what they see.
  const watch = globalThis.ResizeObserver ? new ResizeObserver(() => { if (!touched) begin(); }) : null;
  watch?.observe(root);
  return { element: root, canvas, reveal, view: () => view, close: () => watch?.disconnect() };
}
