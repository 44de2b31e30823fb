/**
 * JSON Schema in words: what a value looks like in a line, and the members of an object in a table. Knows the
 * forms that server/web/openapi/shapes.py makes.
 */

import { el } from "./dom.js";

/**
 * Text with `code` in it, as nodes.
 * @param {string} text
 * @returns {(Node|string)[]}
 */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/**
 * A link to a schema with a name.
 * @param {string} name
 * @returns {HTMLElement}
 */
export function linkTo(name) {
  return el("a", { href: `#schema-${name}` }, name);
}

/**
 * What bounds a text or a number, in a few signs.
 * @param {object} schema
 * @returns {string}
 */
function bounds(schema) {
  const least = schema.minimum ?? schema.minLength;
  const most = schema.maximum ?? schema.maxLength;
  if (most !== undefined) return ` ${range(least, most)}${schema.maxLength === undefined ? "" : " characters"}`;
  if (!least) return "";
  return schema.minimum === undefined ? ", not empty" : ` from ${least}`;
}

/**
 * @param {number|undefined} least
 * @param {number|undefined} most
 * @returns {string}
 */
function range(least, most) {
  if (most === undefined) return least ? `${least} or more` : "";
  const end = most.toLocaleString("en");
  return least === undefined ? `up to ${end}` : `${least}–${end}`;
}

/**
 * A value in a line: `integer 1–100`, `Task`, `array of text`.
 * @param {object} schema
 * @returns {HTMLElement}
 */
export function shortForm(schema) {
  return el("span", { class: "form" }, ...parts(schema));
}

/**
 * @param {object} schema
 * @returns {(Node|string)[]}
 */
function parts(schema) {
  if (schema.$ref) return [linkTo(schema.$ref.split("/").at(-1))];
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.flatMap((each, index) => (index ? [" or ", ...parts(each)] : parts(each)));
  if (schema.allOf) return parts(schema.allOf[0]);
  if ("const" in schema) return [el("code", {}, String(schema.const))];
  if (schema.enum) return schema.enum.flatMap((each, index) => [index ? " or " : "", el("code", {}, String(each))]);
  const [kind, ...others] = [schema.type ?? "anything"].flat();
  const told = (kind === "string" ? (schema.format ?? "text") : kind) + bounds(schema);
  const or = others.map((other) => ` or ${other}`).join("");
  if (!schema.items) return [told + or];
  const count = range(schema.minItems, schema.maxItems);
  return [`array of ${count}${count && " "}`, ...parts(schema.items), or];
}

/**
 * The members of an object, of the objects in an array, or of each alternative.
 * @param {object} schema
 * @returns {HTMLElement[]}
 */
export function membersOf(schema) {
  if (schema.items) return [el("p", {}, shortForm(schema)), ...(schema.items.properties ? [table(schema.items)] : [])];
  if (schema.anyOf) {
    return schema.anyOf.flatMap((each, index) => [
      el("h4", {}, index ? "or " : "either ", shortForm(each)),
      ...(each.description ? [el("p", {}, ...prose(each.description))] : []),
      ...(each.properties ? [table(each)] : []),
    ]);
  }
  if (schema.properties) return [table(schema)];
  return [el("p", {}, shortForm(schema)), ...pattern(schema)];
}

/**
 * @param {object} schema
 * @returns {HTMLElement[]}
 */
function pattern(schema) {
  return schema.pattern ? [el("pre", { tabindex: "0" }, schema.pattern)] : [];
}

/**
 * @param {object} schema  with properties
 * @returns {HTMLElement}
 */
function table(schema) {
  const required = new Set(schema.required ?? []);
  const isAsked = schema.additionalProperties === false;
  const rows = Object.entries(schema.properties).map(([name, each]) => {
    const inner = each.properties ? each : each.items?.properties ? each.items : null;
    const mark = isAsked && required.has(name) ? "required" : !isAsked && !required.has(name) ? "not always there" : null;
    return el("tr", {},
      el("th", { scope: "row" }, el("code", {}, name)),
      el("td", {}, shortForm(each)),
      el("td", {}, ...prose(each.description ?? ""), mark ? el("span", { class: "required" }, mark) : null,
        inner ? table(inner) : null));
  });
  return el("div", { class: "wide" }, el("table", { class: "members" }, el("tbody", {}, ...rows)));
}
