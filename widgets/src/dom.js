// A few lines instead of a framework: elements are made once and patched only where something changed.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}

export const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Set an attribute if it differs; null takes it away. */
export function set(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Set the text if it differs. All text goes this way, so none of it is ever read as markup. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** Set the text if it differs, and hide the node as long as there is none. */
export function say(node, value) {
  node.toggleAttribute("hidden", !value);
  text(node, value);
}
