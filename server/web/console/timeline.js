/**
 * The list of a task's events as they arrive, with markers between them for what happened to the connection.
 * Only the newest rows are kept in the page, so that a long task cannot make it slow.
 */

import { asText, el } from "./dom.js";
import { EndKeeper } from "./scrolling.js";

const MOST_ROWS = 400; // laying out more makes appending visibly slower on a phone
const LONGEST_TEXT = 400;

/** Appends only, and follows the end unless the reader has scrolled away from it. */
export class Timeline {
  #list;
  #count;
  #end;
  #total = 0;

  /**
   * @param {HTMLElement} list  an `ol` that scrolls
   * @param {HTMLElement} count  where the number of events is told
   */
  constructor(list, count) {
    this.#list = list;
    this.#end = new EndKeeper(list);
    this.#count = count;
  }

  clear() {
    this.#list.replaceChildren();
    this.#total = 0;
    this.#tellCount();
  }

  /** @param {import("./follow.js").StreamEvent} event */
  append({ id, type, data }) {
    const attributes = { class: "row", "data-type": type, "data-event-id": id };
    this.#add(el("li", attributes,
      el("span", { class: "row-id" }, id ?? "–"),
      el("span", { class: "row-type" }, type),
      el("span", { class: "row-text" }, summary(type, data))));
    this.#total += 1;
    this.#tellCount();
  }

  /**
   * @param {string} text
   * @param {"attempt"|"gap"|"connection"|"note"} kind
   */
  mark(text, kind) {
    this.#add(el("li", { class: `marker marker-${kind}`, "data-testid": `marker-${kind}` }, text));
  }

  #add(row) {
    this.#end.beforeGrowth();
    this.#list.append(row);
    if (this.#list.childElementCount > MOST_ROWS) this.#list.firstElementChild.remove();
  }

  #tellCount() {
    const shown = this.#total > MOST_ROWS ? `, the last ${MOST_ROWS} shown` : "";
    this.#count.textContent = `${this.#total}${shown}`;
  }
}

function attemptSentence({ attempt, reason, error, resume_from: resumeFrom }) {
  const from = resumeFrom ? `resumes from ${resumeFrom}` : "";
  return [`attempt ${attempt}`, reason, error ? asText(error) : "", from].filter(Boolean).join(" · ");
}

function stalledSentence({ since, reason, error }) {
  const time = new Date(since).toLocaleTimeString();
  return reason === "retry" ? `pause since ${time} · ${error}` : `no sign of life of the worker since ${time}`;
}

function summary(type, data) {
  const text = sentence(type, data);
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
}

function sentence(type, data) {
  if (data === null || typeof data !== "object") return asText(data);
  if (type === "token") return JSON.stringify(data.text ?? data);
  if (type === "progress") return `${data.step ?? "?"} of ${data.total_steps ?? "?"} · ${data.message ?? ""}`;
  if (type === "attempt") return attemptSentence(data);
  if (type === "stalled") return stalledSentence(data);
  if (type === "log" && data.message) return [data.level, data.message].filter(Boolean).join(" · ");
  const keys = Object.keys(data);
  if (keys.length === 1 && typeof data[keys[0]] === "string") return data[keys[0]];
  return JSON.stringify(data);
}
