/**
 * The page at /docs: the OpenAPI document of this server, to be read. Shows what the document says and adds
 * nothing; it knows the forms that server/web/openapi writes, not all that OpenAPI has.
 */

import { byId, el } from "./dom.js";
import { linkTo, membersOf, prose, shortForm } from "./docs-schema.js";

/** HEAD is told once, in the introduction. */
const METHODS = ["get", "post", "put", "delete"];

/**
 * @param {string} method
 * @param {string} path
 * @returns {HTMLElement[]}
 */
function address(method, path) {
  return [
    el("span", { class: "method", "data-method": method }, method.toUpperCase()),
    el("code", { class: "path" }, path),
  ];
}

/**
 * @param {object} parameter
 * @returns {string}
 */
function placeOf(parameter) {
  return parameter.schema.items ? `${parameter.in}, repeated` : parameter.in;
}

/**
 * @param {object[]} parameters
 * @returns {HTMLElement}
 */
function parametersTable(parameters) {
  const rows = parameters.map((each) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, each.name), el("span", { class: "place" }, placeOf(each))),
    el("td", {}, shortForm(each.schema)),
    el("td", {}, ...prose(each.description ?? ""), each.required ? el("span", { class: "required" }, "required") : null),
  ));
  return el("div", { class: "wide" }, el("table", { class: "members" }, el("tbody", {}, ...rows)));
}

/**
 * Examples of a media type, as they would be sent.
 * @param {object} media
 * @returns {HTMLElement[]}
 */
function examplesOf(media) {
  const values = media.examples ? Object.values(media.examples).map((each) => each.value) : [];
  if ("example" in media) values.push(media.example);
  return values.map((value) =>
    el("pre", { tabindex: "0" }, typeof value === "string" ? value.trimEnd() : JSON.stringify(value, null, 2)));
}

/**
 * @param {Object<string, object>} content  by media type
 * @returns {HTMLElement[]}
 */
function contentOf(content) {
  return Object.entries(content).flatMap(([mediaType, media]) => [
    el("p", { class: "media" }, el("code", {}, mediaType), " ", shortForm(media.schema)),
    ...examplesOf(media),
  ]);
}

/**
 * @param {Object<string, object>} headers  by name
 * @returns {HTMLElement[]}
 */
function headersOf(headers) {
  const told = Object.entries(headers).map(([name, each]) => el("li", {},
    el("code", {}, name), " ", shortForm(each.schema), " ", ...prose(each.description ?? "")));
  return told.length ? [el("ul", { class: "headers" }, ...told)] : [];
}

/**
 * Answers: those of success with what they hold, refusals in a table of their own, all being problem documents.
 * @param {Object<string, object>} responses  by status
 * @returns {HTMLElement[]}
 */
function answersOf(responses) {
  const all = Object.entries(responses);
  const isProblem = ([, told]) => "application/problem+json" in (told.content ?? {});
  const good = all.filter((each) => !isProblem(each));
  const refusals = all.filter(isProblem);
  const line = ([status, told]) => el("p", { class: "answer" },
    el("span", { class: "status", "data-kind": status[0] }, status), " ", ...prose(told.description));
  const parts = good.map((each) =>
    el("div", {}, line(each), ...headersOf(each[1].headers ?? {}), ...contentOf(each[1].content ?? {})));
  if (refusals.length === 0) return parts;
  return [...parts, el("h4", {}, "Refusals ", linkTo("Problem")), ...refusals.map(line)];
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} operation
 * @returns {HTMLElement}
 */
function operationPanel(method, path, operation) {
  const body = operation.requestBody;
  const parts = [];
  if (operation.description) parts.push(el("p", {}, ...prose(operation.description)));
  if (operation.parameters) parts.push(el("h4", {}, "Parameters"), parametersTable(operation.parameters));
  if (body) {
    parts.push(el("h4", {}, "Body"), el("p", {}, ...prose(body.description)), ...contentOf(body.content));
  }
  parts.push(el("h4", {}, "Answers"), ...answersOf(operation.responses));
  return el("details", { class: "operation", id: operation.operationId },
    el("summary", {}, ...address(method, path), el("span", { class: "quiet" }, operation.summary)),
    el("div", { class: "operation-body" }, ...parts));
}

/**
 * @param {string} name
 * @param {object} schema
 * @returns {HTMLElement}
 */
function schemaPanel(name, schema) {
  return el("details", { class: "operation", id: `schema-${name}` },
    el("summary", {}, el("code", { class: "path" }, name)),
    el("div", { class: "operation-body" },
      schema.description ? el("p", {}, ...prose(schema.description)) : null, ...membersOf(schema)));
}

/**
 * Open what the address names, so that a link to an operation or a schema shows it.
 */
function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (!(named instanceof HTMLDetailsElement)) return;
  named.open = true;
  named.scrollIntoView();
}

/**
 * @param {object} told  the OpenAPI document
 */
function show(told) {
  const operations = Object.entries(told.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
  const intro = el("section", { class: "panel intro" },
    el("h1", {}, `${told.info.title} ${told.info.version}`),
    ...told.info.description.trim().split("\n\n").map((each) => el("p", {}, ...prose(each))));
  const groups = told.tags.map(({ name, description }) => {
    const own = operations.filter(({ operation }) => operation.tags.includes(name));
    byId("index").append(el("h2", {}, name), el("ol", {}, ...own.map(({ method, path, operation }) =>
      el("li", {}, el("a", { href: `#${operation.operationId}`, title: operation.summary }, ...address(method, path))))));
    return el("section", { class: "panel" }, el("h2", {}, name), el("p", { class: "description" }, description),
      ...own.map(({ method, path, operation }) => operationPanel(method, path, operation)));
  });
  const schemas = Object.entries(told.components.schemas).map(([name, schema]) => schemaPanel(name, schema));
  byId("operations").replaceChildren(intro, ...groups,
    el("section", { class: "panel" }, el("h2", {}, "Schemas"), ...schemas));
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  show(await response.json());
  addEventListener("hashchange", openNamed);
  openNamed();
} catch (error) {
  byId("message").textContent = `The document cannot be shown: ${error.message} Reload the page to try again.`;
}
