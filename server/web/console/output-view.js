/**
 * What a task has produced so far: progress, ticks, thoughts, tokens, and how it ended. It can be cleared and
 * told everything again, which is how output that no longer stands disappears.
 */

import { asText, byId, el } from "./dom.js";
import { EndKeeper } from "./scrolling.js";

const SHORT_RESULT = 72; // on one line; longer ones are laid out

/** The blocks of output of the followed task. An event of a type it has no block for changes nothing. */
export class OutputView {
  #progress = byId("progress");
  #progressBlock = byId("progress-block");
  #progressText = byId("progress-text");
  #progressPercent = byId("progress-percent");
  #ticks = byId("ticks");
  #thoughts = byId("thoughts");
  #output = byId("output");
  #outputEnd = new EndKeeper(this.#output);
  #ending = byId("ending");
  #show = {
    progress: (data) => this.#showProgress(data),
    tick: (data) => this.#add(this.#ticks, "li", data.remaining ?? asText(data)),
    thought: (data) => this.#add(this.#thoughts, "li", textOf(data)),
    conclusion: (data) => this.#add(this.#thoughts, "li", textOf(data), "conclusion"),
    token: (data) => this.#addToken(textOf(data)),
    complete: (data) => this.#end("result", "Result", data.result),
    error: (data) => this.#end("error", data.code ? `Failed (${data.code})` : "Failed", data.error),
    cancelled: () => this.#end("cancelled", "Cancelled", "Stopped on request. What it had produced is above."),
  };

  clear() {
    this.#progress.value = 0;
    this.#progressText.textContent = "";
    this.#progressPercent.textContent = "";
    this.#progressBlock.hidden = true;
    for (const part of [this.#ticks, this.#thoughts, this.#output, this.#ending]) {
      part.replaceChildren();
      part.hidden = true;
    }
  }

  /** @param {import("./follow.js").StreamEvent} event */
  apply({ type, data }) {
    this.#show[type]?.(data ?? {});
  }

  #showProgress({ step, total_steps: total, message, percentage }) {
    this.#progressBlock.hidden = false;
    const percent = percentage ?? (total ? (100 * step) / total : null);
    if (percent === null) this.#progress.removeAttribute("value");
    else this.#progress.value = percent;
    this.#progressPercent.textContent = percent === null ? "" : `${Math.round(percent)} %`;
    const place = total ? `Step ${step} of ${total}` : "";
    this.#progressText.textContent = [place, message].filter(Boolean).join(" · ");
  }

  #add(list, tag, text, className = null) {
    list.hidden = false;
    list.append(el(tag, { class: className }, String(text)));
  }

  /** One text node for all tokens: a node each would make thousands of them. */
  #addToken(text) {
    this.#output.hidden = false;
    this.#outputEnd.beforeGrowth();
    if (this.#output.firstChild) this.#output.firstChild.appendData(text);
    else this.#output.append(text);
  }

  #end(kind, heading, content) {
    const text = typeof content === "string" ? content : laidOut(content ?? null);
    const body = el(kind === "result" ? "pre" : "p", { "data-testid": kind }, text);
    this.#ending.dataset.kind = kind;
    this.#ending.replaceChildren(el("h3", {}, heading), body);
    this.#ending.hidden = false;
  }
}

function laidOut(value) {
  const text = JSON.stringify(value);
  return text.length <= SHORT_RESULT ? text : JSON.stringify(value, null, 2);
}

function textOf(data) {
  return asText(data.text ?? data.thought ?? data.message ?? data.conclusion ?? data);
}
