/**
 * A form made from the JSON Schema of a task's input. It offers what the schema allows and leaves judging to
 * the server: its sentence is the one to show, and two sets of rules would come to disagree.
 */

import { asText, el } from "./dom.js";

const ANYTHING = { title: "Input", description: "This task takes any JSON object.", type: "object", default: {} };

/** One input of the form: `read` gives the value to send, undefined to leave it out. */
class Field {
  constructor(name, schema, isRequired) {
    this.name = name;
    this.schema = schema;
    this.isRequired = isRequired;
    this.control = makeControl(schema, isRequired);
    this.default = defaultText(schema);
    this.control.id = `input-${name}`;
    this.control.name = name;
    this.control.dataset.testid = `field-${name}`;
    const problem = `problem-${name}`;
    this.problem = el("p", { class: "field-problem", id: problem, hidden: true, "data-testid": problem });
    this.element = this.#layout();
    this.control.addEventListener("change", () => this.#putDefaultBack());
  }

  /** @param {string|null} text */
  showProblem(text) {
    this.problem.textContent = text ?? "";
    this.problem.hidden = !text;
    this.control.setAttribute("aria-invalid", String(Boolean(text)));
  }

  read() {
    this.#putDefaultBack();
    return readControl(this.control, this.schema);
  }

  /** What is left out runs with its default: an emptied field would hide which. */
  #putDefaultBack() {
    const { control } = this;
    if (control.value === "" && !control.validity.badInput) control.value = this.default;
  }

  #layout() {
    const { control, schema, name } = this;
    const note = [rangeOf(schema), this.isRequired ? "required" : ""].filter(Boolean).join(", ");
    const hint = note ? el("span", { class: "hint" }, note) : null;
    const label = el("label", { for: control.id }, schema.title ?? name, hint);
    const help = schema.description ? el("p", { class: "hint", id: `help-${name}` }, schema.description) : null;
    control.setAttribute("aria-describedby", `${help ? `help-${name} ` : ""}problem-${name}`);
    const isBox = control.type === "checkbox";
    const parts = isBox ? [control, label] : [label, control];
    return el("div", { class: isBox ? "field field-check" : "field" }, ...parts, help, this.problem);
  }
}

/** The fields of one schema at a time, in the order of its properties. */
export class SchemaForm {
  #container;
  #fields = [];
  /** The one field for a schema that names no properties but takes any. @type {Field|null} */
  #whole = null;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#container = container;
  }

  /** @param {object} schema  JSON Schema of an object */
  show(schema) {
    const required = new Set(schema.required ?? []);
    const properties = Object.entries(schema.properties ?? {});
    const takesAny = properties.length === 0 && schema.additionalProperties !== false;
    this.#whole = takesAny ? new Field("*", ANYTHING, false) : null;
    this.#fields = properties.map(([name, part]) => new Field(name, resolve(part, schema), required.has(name)));
    const shown = this.#whole ? [this.#whole] : this.#fields;
    this.#container.replaceChildren(...shown.map((field) => field.element));
  }

  /** @returns {object} the input to send */
  read() {
    if (this.#whole) return this.#whole.read() ?? {};
    const values = this.#fields.map((field) => [field.name, field.read()]);
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }

  clearProblems() {
    for (const field of this.#fields) field.showProblem(null);
  }

  /**
   * Show the server's sentences next to the fields they are about.
   * @param {import("./api.js").Problem} problem
   * @returns {string|null} what is about none of the fields and has to be shown elsewhere
   */
  showProblem(problem) {
    const errors = problem.document.errors ?? [];
    const placed = new Set();
    for (const field of this.#fields) {
      const own = errors.filter((error) => fieldOf(error) === field.name);
      if (own.length === 0) continue;
      field.showProblem(own.map(({ detail }) => detail).join(" "));
      if (placed.size === 0) field.control.focus();
      own.forEach((error) => placed.add(error));
    }
    if (placed.size === 0) return problem.message;
    return errors.filter((error) => !placed.has(error)).map(({ detail }) => detail).join(" ") || null;
  }
}

/** The input field an entry of `errors` points at: `#/input/seconds` is about `seconds` (JSON Pointer, RFC 6901). */
function fieldOf({ pointer = "" }) {
  const [root, part, name] = pointer.split("/");
  if (root !== "#" || part !== "input" || name === undefined) return null;
  return decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~");
}

/** Follow `$ref`, and see through "this or null", which is how optional parameters are written. */
function resolve(part, root) {
  if (part.$ref) {
    const target = part.$ref.replace(/^#\//, "").split("/").reduce((node, key) => node?.[key], root) ?? {};
    return { ...resolve(target, root), ...part, $ref: undefined };
  }
  const choices = (part.anyOf ?? part.oneOf ?? part.allOf ?? []).filter((choice) => choice.type !== "null");
  return choices.length === 1 ? { ...resolve(choices[0], root), ...part } : part;
}

function isNumeric(schema) {
  return schema.type === "integer" || schema.type === "number";
}

function makeControl(schema, isRequired) {
  const required = isRequired ? "true" : null;
  if (schema.enum) return makeSelect(schema, isRequired);
  if (schema.type === "boolean") return el("input", { type: "checkbox", checked: schema.default === true });
  const value = defaultText(schema);
  if (isNumeric(schema)) {
    const step = schema.multipleOf ?? (schema.type === "integer" ? 1 : "any");
    const { minimum: min, maximum: max } = schema;
    return el("input", { type: "number", min, max, step, value, "aria-required": required });
  }
  if (schema.type === "string" && !(schema.maxLength > 200)) {
    return el("input", { type: "text", value, autocomplete: "off", "aria-required": required });
  }
  const placeholder = schema.type === "string" ? null : "JSON";
  return el("textarea", { rows: 3, spellcheck: "false", placeholder, "aria-required": required }, value);
}

function defaultText({ default: value }) {
  return value === null || value === undefined ? "" : asText(value);
}

function makeSelect(schema, isRequired) {
  const options = schema.enum.map((choice, index) =>
    el("option", { value: index, selected: choice === schema.default }, asText(choice)));
  const needsNone = !isRequired && schema.default === undefined;
  return el("select", {}, needsNone ? el("option", { value: "", selected: true }, "–") : null, ...options);
}

/** A value that cannot be read as what the schema wants is sent as typed, for the server to say what is wrong. */
function readControl(control, schema) {
  if (control.type === "checkbox") return control.checked;
  if (control.validity.badInput) return "";
  if (control.value === "") return undefined;
  if (schema.enum) return schema.enum[Number(control.value)];
  if (schema.type === "string") return control.value;
  if (isNumeric(schema)) return Number(control.value);
  try {
    return JSON.parse(control.value);
  } catch {
    return control.value;
  }
}

function rangeOf(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low !== undefined && high !== undefined) return `${low} – ${high}`;
  if (low !== undefined) return `from ${low}`;
  return high === undefined ? "" : `up to ${high}`;
}
