// Numbers as short text. dspex_lab/widgets/_format.py says the same in Python; a test compares the two.

const fixed = (value, digits) => {
  const scale = 10 ** digits;
  return (Math.floor(value * scale + 0.5) / scale).toFixed(digits);
};
const two = (value) => String(value).padStart(2, "0");

/** A duration in seconds: "340 ms", "4.2 s", "3 min 04 s", "2 h 05 min"; "" for null. */
export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 0.0005) return "<1 ms";
  if (value < 0.9995) return `${fixed(value * 1000, 0)} ms`;
  if (value < 9.95) return `${fixed(value, 1)} s`;
  return clock(Math.floor(value + 0.5));
}

/** The time left in seconds, in whole seconds and never nothing: "1 s", "3 min 04 s". */
export const left = (value) => clock(Math.max(Math.ceil(value), 1));

function clock(whole) {
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** A count: "1,204", "12.3k", "4.5M". */
export function count(value) {
  if (value < 10000) return String(value).replace(/(\d)(\d{3})$/, "$1,$2");
  if (value < 999950) return `${fixed(value / 1000, 1)}k`;
  return `${fixed(value / 1000000, 1)}M`;
}

/** US dollars: "$0", "$0.0031", "$0.012", "$12.30". */
export function cost(value) {
  if (value === 0) return "$0";
  if (value < 0.0001) return "<$0.0001";
  if (value < 0.00995) return `$${fixed(value, 4)}`;
  if (value < 0.9995) return `$${fixed(value, 3)}`;
  return `$${fixed(value, 2)}`;
}

/** Rows per second, or per minute when slower: "1,240/s", "3.2/s", "12/min". */
export function rate(value) {
  if (value >= 9.95) return `${count(Math.floor(value + 0.5))}/s`;
  if (value >= 0.95) return `${fixed(value, 1)}/s`;
  return `${fixed(value * 60, 0)}/min`;
}
