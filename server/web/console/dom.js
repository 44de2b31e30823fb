/**
 * Building DOM nodes from data. Data only ever becomes text nodes and attribute values, so nothing a task
 * emits can become markup or script.
 */

/**
 * Make an element. Attributes that are null, undefined or false are left out; true means an empty attribute.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|null|undefined>} [attributes]
 * @param {...(Node|string|null)} children  null is skipped, strings become text nodes
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * The element of the page with this id; the names in index.html and here must agree.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element with the id "${id}".`);
  return element;
}

/**
 * Show text in an element, or hide the element when there is none.
 * @param {HTMLElement} element
 * @param {string|null} text
 */
export function showText(element, text) {
  element.hidden = !text;
  element.textContent = text ?? "";
}

/**
 * A value as one would type it: strings bare, everything else as JSON.
 * @param {unknown} value
 * @returns {string}
 */
export function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}
