// What the widget says, as pure functions of the state. dspex_lab/widgets/_text.py says the same for static
// pictures; a test compares the two.
import { cost, count, left, rate, seconds } from "./format.js";

export const WORDS = {
  waiting: "Waiting",
  running: "Running",
  complete: "Complete",
  partial: "Partial",
  fallback: "Fallback",
  failed: "Failed",
  skipped: "Skipped",
  cancelled: "Cancelled",
  interrupted: "Interrupted",
};

/** Icons in a 14 × 14 box, drawn as strokes; the shape tells the state apart without its colour. */
export const ICONS = {
  waiting: "M7 3.2A3.8 3.8 0 1 1 7 10.8A3.8 3.8 0 1 1 7 3.2",
  running: "M7 2.2A4.8 4.8 0 1 1 2.2 7",
  complete: "M2.8 7.6L5.7 10.5L11.4 4",
  partial: "M7 2.6V7.8M7 10.9V11.1",
  fallback: "M7 2.6V7.8M7 10.9V11.1",
  failed: "M3.6 3.6L10.4 10.4M10.4 3.6L3.6 10.4",
  skipped: "M3.2 7H10.8",
  cancelled: "M4.2 4.2H9.8V9.8H4.2Z",
  interrupted: "M4.2 4.2H9.8V9.8H4.2Z",
};

/** Where the outputs of a step that was not carried out came from, by what its record calls the implementation. */
const KEPT = { __proto__: null, cache: "from cache", checkpoint: "from checkpoint" };

const join = (parts) => parts.filter(Boolean).join(" · ");
const plural = (n, noun) => `${count(n)} ${n === 1 ? noun : noun.endsWith("y") ? `${noun.slice(0, -1)}ies` : `${noun}s`}`;
export const tokensOf = (s) => s.prompt_tokens + s.completion_tokens;
export const endedOf = (step) => step.complete + step.partial + step.failed + step.skipped;

/** What a step is: "dspy · general pool". */
export const nature = (node) => join([node.kind, node.pool && `${node.pool} pool`]);

/** The second line of a step's box. */
export function stepLine(node, step, isMap) {
  if (!step || step.status === "waiting") return nature(node);
  const tokens = tokensOf(step) ? `${count(tokensOf(step))} tok` : KEPT[step.implementation];
  if (isMap) return join([step.seconds !== null && `${seconds(step.seconds)}/row`, tokens]) || nature(node);
  if (step.times > 1 && step.seconds !== null) return join([`${count(step.times)} × ${seconds(step.seconds)}`, tokens]);
  return join([seconds(step.seconds), tokens]) || WORDS[step.status].toLowerCase();
}

/** A step in words, for those who hear it. */
export function stepLabel(node, step, isMap) {
  const parts = [`Step ${node.name}`, nature(node)];
  if (step) {
    parts.push(WORDS[step.status].toLowerCase());
    const many = step.times > 1;
    if ((isMap || many) && endedOf(step)) parts.push(outcomes(step));
    if (step.seconds !== null) parts.push(seconds(step.seconds) + (isMap ? " a row" : many ? " each" : ""));
    if (tokensOf(step)) parts.push(plural(tokensOf(step), "token"));
    if (step.errors.length) parts.push(step.errors[0].text);
  }
  return parts.filter(Boolean).join(", ");
}

/** How a step ended in all rows, or all times: "296 complete, 3 failed, 1 skipped". */
export function outcomes(step) {
  return ["complete", "partial", "failed", "skipped"].filter((k) => step[k]).map((k) => `${count(step[k])} ${k}`).join(", ");
}

/** The tokens of the whole: "1,204 tokens"; nothing where no language model was asked. */
export const tokensText = (s) => (s.calls || tokensOf(s) ? plural(tokensOf(s), "token") : "");

/** The cost of the whole, or of a step; a sum that lacks the price of some calls says so. */
export function costText(s) {
  if (s.cost === null) return s.unpriced ? "cost unknown" : "";
  if (!s.calls && !s.cost) return "";
  return (s.unpriced ? "≥ " : "") + cost(s.cost);
}

/** Language model calls: "12 calls, 3 cached". */
export const callsText = (s) => plural(s.calls, "call") + (s.cached ? `, ${count(s.cached)} cached` : "");

/** What went another way than planned: "2 retries · asked again in JSON 1 × · b/model answered instead 3 ×". */
export function notesText(notes) {
  return join([
    notes.retried && plural(notes.retried, "retry"),
    notes.again && `asked again in JSON ${count(notes.again)} ×`,
    ...notes.instead.map((i) => `${i.name} answered instead ${count(i.count)} ×`),
    notes.hedged && `${plural(notes.hedged, "hedge")} won`,
    ...notes.open.map((target) => `circuit of ${target} is open`),
    notes.level && `under load: ${notes.level.replaceAll("_", " ")}`,
  ]);
}

/** How much of each budget is spent: "41% of $2.00 (this run)". */
export const budgetText = (budgets) => join(budgets.map((b) => `${Math.floor(100 * b.share + 1e-9)}% of ${b.limit} (${b.of})`));

/** The rows of a map: "120 / 300 rows · 3 failed · 41/s · 5 s left". */
export function rowsText(rows) {
  const all = rows.total === null ? `${count(rows.done)} rows` : `${count(rows.done)} / ${count(rows.total)} rows`;
  const bad = ["partial", "failed", "cancelled"].map((k) => rows[k] && `${count(rows[k])} ${k}`);
  return join([all, ...bad, rows.rate !== null && rate(rows.rate), rows.eta !== null && `${left(rows.eta)} left`]);
}

/** Percentages of complete, partial and failed rows (cancelled ones count as failed); zeros while the total is unknown. */
export function shares(rows) {
  const total = Math.max(rows.total ?? 0, rows.total === null ? 0 : rows.done);
  return [rows.complete, rows.partial, rows.failed + rows.cancelled].map((n) => (total ? (100 * n) / total : 0));
}

/** The error of the whole run in one line, or "". */
export function errorText(summary) {
  if (!summary.error) return "";
  return summary.error_step ? `${summary.error_step}: ${summary.error}` : summary.error;
}
