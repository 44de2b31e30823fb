/**
 * The followed task on the screen: what it is, how it stands, and its connection. Shows what it is told and
 * decides only which events still stand; it never talks to the server.
 */

import { byId, showText } from "./dom.js";
import { idsBetween } from "./ids.js";
import { OutputView } from "./output-view.js";
import { ENDED, STATUS_AFTER, standingAfter } from "./standing.js";
import { Timeline } from "./timeline.js";

const REASONS = new Map([
  ["worker_lost", "the worker was lost"],
  ["retry", "the attempt before it failed"],
  ["rerun", "it was run again on request"],
]);

const STALLED = "No sign of life from the worker. If it does not return, another attempt begins or the task fails.";
const LONGEST_ERROR = 300;

const PHASES = new Map([
  ["connecting", "Connecting"],
  ["live", "Live"],
  ["reconnecting", "Reconnecting"],
  ["paused", "Paused"],
  ["finished", "Finished"],
  ["refused", "Not followed"],
]);

/** Shows one task at a time; events must come in the order of arrival. */
export class TaskView {
  #output = new OutputView();
  #timeline = new Timeline(byId("timeline"), byId("event-count"));
  #parts = Object.fromEntries(
    ["title", "task-id", "input", "status", "attempt", "connection-state", "connection-reason", "last-event-id",
      "notice", "gap", "stalled", "cancel", "reconnect", "announcement"].map((id) => [id, byId(id)]),
  );
  #events = [];
  #lastSequenceId = null;
  #wasLive = false;
  #isLost = false;

  /** The status the events so far amount to. @type {string} */
  status = "pending";

  /**
   * Begin showing a task; nothing of the one before remains.
   * @param {string} id
   */
  begin(id) {
    this.#parts.title.textContent = "Task";
    this.#parts["task-id"].textContent = id;
    showText(this.#parts.input, null);
    this.#parts.cancel.textContent = "Cancel";
    this.restart();
  }

  /** Forget every event: the stream is read again from its beginning. */
  restart() {
    this.#events = [];
    this.#lastSequenceId = null;
    this.#wasLive = false;
    this.#isLost = false;
    this.#parts["last-event-id"].textContent = "–";
    this.#showAttempt(null);
    this.#showStatus("pending");
    this.#clearOutput();
  }

  /** @param {object} record  of the task: what it is. How it stands is told by its events alone once they come. */
  describe(record) {
    this.#parts.title.textContent = record.title || record.type;
    const hasInput = Object.keys(record.input ?? {}).length > 0;
    showText(this.#parts.input, hasInput ? JSON.stringify(record.input) : null);
    if (this.#events.length > 0) return;
    this.#showStatus(record.status);
    if (record.attempt) this.#showAttempt(record.attempt);
    showText(this.#parts.stalled, waitingSentence(record));
  }

  /** @param {import("./follow.js").StreamEvent} event */
  receive(event) {
    if (event.id) this.#parts["last-event-id"].textContent = event.id;
    this.#tellUnseen(event);
    if (event.type === "position") return; // it moves the cursor and says nothing about the task
    if (event.type === "attempt") this.#beginAttempt(event.data);
    if (event.type !== "gap" && event.type !== "stalled") showText(this.#parts.stalled, null);
    this.#events.push(event);
    this.#show(event);
  }

  /** @param {import("./follow.js").ConnectionState} state */
  showConnection({ phase, reason, isClosed }) {
    const element = this.#parts["connection-state"];
    element.dataset.state = phase;
    element.dataset.closed = String(isClosed);
    element.textContent = PHASES.get(phase);
    this.#parts["connection-reason"].textContent = phase === "refused" ? "" : reason;
    this.#parts.reconnect.disabled = isClosed || phase === "finished";
    showText(this.#parts.notice, phase === "refused" ? reason : null);
    if (phase === "refused") this.#parts.cancel.hidden = this.#parts.status.hidden = true;
    this.#markConnection(phase);
  }

  #markConnection(phase) {
    if (phase === "reconnecting" && this.#wasLive && !this.#isLost) {
      this.#timeline.mark(`Connection lost after ${this.#parts["last-event-id"].textContent}`, "connection");
      this.#isLost = true;
    } else if (phase === "live") {
      if (this.#isLost) this.#timeline.mark("Connected again, continuing from there", "connection");
      this.#wasLive = true;
      this.#isLost = false;
    }
  }

  /** @param {string|null} text  a refusal to show beside the task, such as that of a cancel */
  showNotice(text) {
    showText(this.#parts.notice, text);
  }

  /** @param {boolean} isAsked  whether the task was asked to end and has not yet done so */
  showCancelling(isAsked) {
    this.#parts.cancel.hidden = ENDED.has(this.status);
    this.#parts.cancel.disabled = isAsked;
    this.#parts.cancel.textContent = isAsked ? "Cancelling…" : "Cancel";
  }

  #clearOutput() {
    this.#output.clear();
    this.#timeline.clear();
    for (const name of ["gap", "stalled", "notice"]) showText(this.#parts[name], null);
  }

  /** Take back what a new attempt made void, by showing again what still stands. */
  #beginAttempt(data) {
    const standing = standingAfter(this.#events, data);
    const isVoid = standing.length < this.#events.length;
    if (isVoid) {
      const dropped = this.#events.length - standing.length;
      this.#events = standing;
      this.#clearOutput();
      for (const event of standing) this.#show(event);
      this.#timeline.mark(voidSentence(data, dropped), "attempt");
    }
    this.#showAttempt(data.attempt, data, isVoid);
    this.#showStatus("running");
    if (data.attempt > 1) this.#announce(`Attempt ${data.attempt} began.`);
  }

  #show(event) {
    this.#output.apply(event);
    this.#timeline.append(event);
    if (event.type === "gap") this.#showGap(event.data);
    if (event.type === "stalled") this.#showStall(event.data);
    const status = STATUS_AFTER.get(event.type);
    if (status) {
      this.#showStatus(status);
      this.#announce(`The task is ${status}.`);
    }
  }

  #showStall({ reason, error, not_before: notBefore }) {
    const isPause = reason === "retry";
    if (isPause) this.#showStatus("pending");
    showText(this.#parts.stalled, isPause ? pauseSentence(error, notBefore) : STALLED);
  }

  #showGap({ missed, requested, resumed_at: resumedAt }) {
    const what = missed === 1 ? "1 event is" : `${missed ?? "Some"} events are`;
    const where = requested ? `between ${requested} and ${resumedAt}` : `before ${resumedAt}`;
    showText(this.#parts.gap, `${what} no longer stored (${where}). What is shown here is incomplete.`);
    this.#timeline.mark(`Gap: ${where}`, "gap");
  }

  /** An event of a type nobody listens for leaves a hole in the sequence; a gap told by the server does not count. */
  #tellUnseen({ id, type }) {
    if (type === "gap") this.#lastSequenceId = null;
    if (id === null) return;
    const unseen = idsBetween(this.#lastSequenceId, id);
    if (unseen > 0) {
      this.#timeline.mark(`${unseen} × a type this page does not listen for (see “Event types”)`, "note");
    }
    this.#lastSequenceId = id;
  }

  #showStatus(status) {
    this.status = status;
    this.#parts.status.hidden = false;
    this.#parts.status.textContent = status;
    this.#parts.status.dataset.status = status;
    this.showCancelling(false);
  }

  #showAttempt(number, data = {}, isVoid = false) {
    const element = this.#parts.attempt;
    const isRepeat = number !== null && number > 1;
    element.dataset.repeat = String(isRepeat);
    element.textContent = number === null ? "–" : String(number);
    const reason = REASONS.get(data.reason);
    const rest = isVoid ? " Output that no longer stands was removed." : "";
    showText(byId("attempt-note"), isRepeat && reason ? `Attempt ${number}: ${reason}.${rest}` : null);
  }

  #announce(text) {
    this.#parts.announcement.textContent = text;
  }
}

function voidSentence({ attempt }, dropped) {
  return `Attempt ${attempt} · ${dropped === 1 ? "1 event no longer stands" : `${dropped} events no longer stand`}`;
}

/** Why nothing comes between two attempts. */
function pauseSentence(error, notBefore) {
  const shown = error.length > LONGEST_ERROR ? `${error.slice(0, LONGEST_ERROR)}…` : error;
  const time = notBefore ? ` at ${new Date(notBefore).toLocaleString()}` : "";
  return `It is tried again${time}. The last attempt failed: ${shown}`;
}

/** Why a task has not begun, as far as its record tells; null if there is nothing to wonder about. */
function waitingSentence({ status, not_before: notBefore, queue, workers, error }) {
  if (status !== "pending") return null;
  if (workers === 0) return `No worker that is up offers its type and takes tasks from queue “${queue}”.`;
  if (error) return pauseSentence(error, notBefore);
  return notBefore ? `Waits until ${new Date(notBefore).toLocaleString()}.` : null;
}
