// By what a person changes a variable: a slider, a number, a switch or a list. Which one, Python says (_board_rows.py).
import { html, set } from "./dom.js";

const STEPS = 200; // of a slider whose range has no steps of its own

/** How many decimals a number has. */
const decimals = (step) => (String(step).includes("e-") ? Number(String(step).split("e-")[1]) : (String(step).split(".")[1] ?? "").length);

/** The value at a place of a slider from 0 to `steps`; pure. */
export function valueAt(control, place) {
  const { low, high, step, log, whole } = control;
  if (log) {
    const value = Math.exp(Math.log(low) + (place / STEPS) * (Math.log(high) - Math.log(low)));
    const near = place >= STEPS ? high : place <= 0 ? low : Number(value.toPrecision(3));
    return Math.min(Math.max(whole ? Math.round(near) : near, low), high);
  }
  if (step) return Number((low + place * step).toFixed(Math.max(decimals(step), decimals(low))));
  return place >= STEPS ? high : place <= 0 ? low : Number((low + (place / STEPS) * (high - low)).toPrecision(6));
}

/** The place of a value on a slider; pure. */
export function placeOf(control, value) {
  const { low, high, step, log } = control;
  if (log) return Math.round((STEPS * (Math.log(value) - Math.log(low))) / (Math.log(high) - Math.log(low)));
  return Math.round(step ? (value - low) / step : (STEPS * (value - low)) / (high - low));
}

/** The last place of a slider; pure. */
export const places = ({ low, high, step, log }) => (step && !log ? Math.floor((high - low) / step + 1e-9) : STEPS);

const NONE = { input: null, read: () => null, put() {} };

function makeSlider(control, label) {
  const input = html("input", { type: "range", min: 0, max: places(control), step: 1, "aria-label": label });
  return {
    input,
    read: () => valueAt(control, Number(input.value)),
    put(place) {
      if (place === null) return;
      input.value = String(placeOf(control, place));
      set(input, "aria-valuetext", place);
    },
  };
}

function makeNumber(control, label) {
  const { low, high, step } = control;
  const input = html("input", { type: "number", min: low, max: high, step: step ?? "any", "aria-label": label });
  return {
    input,
    read: () => (input.value === "" ? null : Number(input.value)),
    put(place) { input.value = place === null ? "" : String(place); },
  };
}

function makeToggle(_, label) {
  const input = html("input", { type: "checkbox", role: "switch", "aria-label": label });
  return { input, read: () => input.checked, put(place) { input.checked = place === true; } };
}

function makeSelect(control, label) {
  const options = control.options.map((words, n) => html("option", { value: n }, words || " "));
  const input = html("select", { "aria-label": label }, ...options);
  return { input, read: () => Number(input.value), put(place) { input.selectedIndex = place ?? -1; } };
}

const MAKERS = { slider: makeSlider, number: makeNumber, toggle: makeToggle, select: makeSelect };

/** A control that says what a person wants by `wanted(place)`, and while a slider moves where it is by `shown(words)`. */
export function makeControl(name, wanted, shown) {
  const element = html("span", { class: "dspex-control" });
  let kind = null; // as JSON: a domain that changed needs another control
  let parts = NONE;
  let moving = false;

  function build(control) {
    parts = (MAKERS[control.type] ?? (() => NONE))(control, `Value of ${name}`);
    element.replaceChildren(...(parts.input ? [parts.input] : []));
    parts.input?.addEventListener("input", () => {
      moving = true;
      if (control.type === "slider") shown(String(parts.read()));
    });
    parts.input?.addEventListener("change", () => {
      moving = false;
      const place = parts.read();
      if (place !== null) wanted(place);
    });
  }

  function update(row) {
    const now = JSON.stringify(row.control);
    if (now !== kind) {
      kind = now;
      moving = false;
      build(row.control);
    }
    if (parts.input) parts.input.disabled = row.pinned;
    if (!moving) parts.put(row.place);
  }
  return {
    element,
    update,
    moving: () => moving,
    reset(row) {
      moving = false;
      parts.put(row.place);
    },
  };
}
