/** Builds and changes elements. Texts become text nodes only. */

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element; children are elements or texts. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** A new SVG element. */
export function makeSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Changes a text only if it differs, so that a selection or a screen reader is not disturbed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The state of a chip is visible by its colour, its symbol and its words. */
export function setChip(element, state, text) {
  if (element.dataset.state !== state) element.dataset.state = state;
  setText(element, text);
}

/** Keeps one child for each item under a parent, in the order of the items; an element is made once for each key. */
export function keep(parent, items, keyOf, makeOne) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    let element = known.get(key);
    if (element === undefined) {
      element = makeOne(item);
      element.dataset.key = key;
    }
    known.delete(key);
    return element;
  });
  const kept = new Set(wanted);
  for (const child of [...parent.children]) {
    if (!kept.has(child)) child.remove();
  }
  wanted.forEach((element, i) => {
    if (parent.children[i] !== element) parent.insertBefore(element, parent.children[i] ?? null);
  });
  return wanted;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
