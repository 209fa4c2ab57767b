// A browser's document and a widget model, as anywidget gives them to render().
import { JSDOM } from "jsdom";

export function page() {
  const { window } = new JSDOM("<!doctype html><body></body>");
  globalThis.window = window;
  globalThis.document = window.document;
  return window;
}

export function modelOf(state) {
  const listeners = new Map();
  return {
    sent: [],
    saved: 0,
    get: (name) => state[name],
    set(name, value) { this.push({ [name]: value }); },
    save_changes() { this.saved += 1; },
    on: (event, f) => listeners.set(event, [...(listeners.get(event) ?? []), f]),
    off: (event, f) => listeners.set(event, (listeners.get(event) ?? []).filter((g) => g !== f)),
    send(message) { this.sent.push(message); },
    /** Change traits as one push from the kernel does. */
    async push(changes) {
      Object.assign(state, changes);
      for (const name of Object.keys(changes)) for (const f of listeners.get(`change:${name}`) ?? []) f();
      await Promise.resolve();
    },
    listening: () => [...listeners.values()].flat().length,
  };
}

export const step = (changes = {}) => ({
  status: "waiting", seconds: null, running: 0, complete: 0, partial: 0, failed: 0, skipped: 0, times: 0, calls: 0, cached: 0,
  prompt_tokens: 0, completion_tokens: 0, cost: null, unpriced: 0, implementation: null, worker: null, errors: [], ...changes,
});

export const notes = (changes = {}) => ({ retried: 0, again: 0, hedged: 0, instead: [], open: [], level: null, ...changes });

export const summary = (changes = {}) => ({
  name: "demo", kind: "run", status: "waiting", run_id: "r", at: Date.now() / 1000, seconds: null, lm: null, simulated: false, calls: 0,
  cached: 0, prompt_tokens: 0, completion_tokens: 0, cost: null, unpriced: 0, error: null, error_step: null, rows: null, notes: notes(), budgets: [], ...changes,
});

export const rows = (changes = {}) => ({
  total: 100, done: 0, complete: 0, partial: 0, failed: 0, cancelled: 0, rate: null, eta: null, ...changes,
});

const at = (name, layer, x, y, changes = {}) => ({
  name, label: name, x, y, width: 160, height: 44, layer, parent: "", group: false, folded: 0, kind: "native", word: "Python function",
  icon: "M0 0", shape: "M0 0H160V44H0Z", line: `line of ${name}`, nature: `nature of ${name}`, badge: "", badge_width: 0, facts: [], ...changes,
});

export const graph = {
  name: "demo", inputs: ["text"], outputs: ["answer"],
  nodes: [
    { name: "clean", kind: "native", inputs: ["text"], outputs: ["clean"], pool: null },
    { name: "label", kind: "dspy", inputs: ["clean"], outputs: ["intent"], pool: null },
    { name: "look", kind: "native", inputs: ["clean"], outputs: ["order"], pool: "general" },
    { name: "answer", kind: "dspy", inputs: ["intent", "order"], outputs: ["answer"], pool: null },
  ],
  edges: [
    { from: "", to: "clean", field: "text" },
    { from: "clean", to: "label", field: "clean" }, { from: "clean", to: "look", field: "clean" },
    { from: "label", to: "answer", field: "intent" }, { from: "look", to: "answer", field: "order" },
  ],
};

export const geometry = {
  width: 700, height: 120,
  nodes: [at("clean", 1, 100, 30), at("label", 2, 300, 4), at("look", 2, 300, 66), at("answer", 3, 500, 30)],
  legend: [{ kind: "native", word: "Python function", icon: "M0 0" }],
  inputs: [{ name: "text", label: "text", x: 4, y: 50, width: 50, height: 22, layer: 0 }],
  edges: [
    { from: "clean", to: "label", fields: ["clean"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "clean", to: "look", fields: ["clean"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "label", to: "answer", fields: ["intent"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "look", to: "answer", fields: ["order"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "", to: "clean", fields: ["text"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
  ],
};

export const waiting = () => Object.fromEntries(graph.nodes.map((n) => [n.name, step()]));

/** A pipeline with an outer step that holds two, one of them folded. */
export const nested = {
  name: "nested", inputs: ["text"], outputs: ["reply"],
  nodes: [
    { name: "clean", kind: "native", inputs: ["text"], outputs: ["clean"], pool: null },
    {
      name: "reply", kind: "when", inputs: ["clean"], outputs: ["reply"], pool: null,
      parts: {
        nodes: [
          { name: "then", kind: "dspy", inputs: ["clean"], outputs: ["reply"], pool: null },
          { name: "otherwise", kind: "pipeline", inputs: ["clean"], outputs: ["reply"], pool: null, parts: { nodes: [{ name: "deep", kind: "lm" }] } },
        ],
        edges: [{ from: "then", to: "otherwise", field: "reply" }],
      },
    },
    { name: "tone", kind: "my<kind>", inputs: ["reply"], outputs: [], pool: "general" },
  ],
  edges: [{ from: "clean", to: "reply", field: "clean" }, { from: "reply", to: "tone", field: "reply" }],
};

export const nestedGeometry = {
  width: 900, height: 200,
  nodes: [
    at("clean", 0, 4, 60),
    at("reply", 1, 200, 4, { width: 400, height: 150, group: true, kind: "when", facts: [["Does", "urgency > 0.8"], ["Inner steps", "then, otherwise"]] }),
    at("reply.then", 0, 210, 46, { parent: "reply", label: "then", kind: "dspy" }),
    at("reply.otherwise", 1, 410, 46, { parent: "reply", label: "otherwise", folded: 1, kind: "pipeline" }),
    at("tone", 2, 640, 60, { badge: "general", badge_width: 48, kind: "other", word: "my<kind>" }),
  ],
  inputs: [],
  edges: [
    { from: "clean", to: "reply", fields: ["clean"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "reply", to: "tone", fields: ["reply"], path: "M0 0L1 1", parent: "", dx: 0, dy: 0 },
    { from: "reply.then", to: "reply.otherwise", fields: ["reply"], path: "M0 0L1 1", parent: "reply", dx: 210, dy: 46 },
  ],
  legend: [{ kind: "other", word: "my<kind>", icon: "M0 0" }],
};
