/**
 * The life cycle of one event stream read through the browser's own EventSource.
 *
 * Finished means a terminal event has arrived, and only that: every other end, clean or not, means come back
 * with the cursor. The browser does most of it; this adds what it leaves out: a source it has closed for good
 * (offline, a refusal, the back/forward cache), a connection that is silent, a page that is hidden.
 * Nothing is filtered and nothing is repaired here: what the server sends twice is seen twice.
 */

import { SilenceWatch } from "./silence.js";

/** Events that are told in band but are not in the log: no id of their own, so none may be shown with one. */
const WITHOUT_ID = new Set(["gap", "stalled", "heartbeat", "open"]);
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/**
 * @typedef {{id: string|null, type: string, data: unknown}} StreamEvent
 * @typedef {"connecting"|"live"|"reconnecting"|"paused"|"finished"|"refused"} Phase
 * @typedef {{phase: Phase, reason: string, isClosed: boolean}} ConnectionState
 *   `isClosed`: no connection is held and none will be opened by itself
 * @typedef {{fromStart?: boolean, refusal?: string}} Advice
 */

export class Follower {
  #path;
  #types;
  #terminal;
  #handlers;
  #source = null;
  #retryTimer = null;
  #failures = 0;
  #isFinished = false;
  #watch = new SilenceWatch((silentMs) => this.#replaceSilent(silentMs));

  /** The last id received, the place from which any server continues. @type {string|null} */
  cursor = null;
  /** @type {ConnectionState} */
  state = { phase: "paused", reason: "", isClosed: true };

  /**
   * Opens nothing yet; see `open`.
   * @param {string} path
   * @param {object} options
   * @param {Iterable<string>} options.types  an EventSource has no wildcard: other types are not seen
   * @param {Iterable<string>} [options.terminal]  types that end the stream
   * @param {(event: StreamEvent) => void} options.onEvent
   * @param {(state: ConnectionState) => void} [options.onState]
   * @param {() => void} [options.onRestart]  the stream is about to be read again from its beginning
   * @param {(cursor: string|null) => Promise<Advice>} [options.advise]  asked when the browser has given up:
   *   whether the stream refuses for good, or must be read again from its beginning
   */
  constructor(path, { types, terminal = [], onEvent, onState, onRestart, advise }) {
    this.#path = path;
    this.#types = new Set(["message", "error", "open", "heartbeat", ...types]);
    this.#terminal = new Set(terminal);
    this.#handlers = {
      onEvent,
      onState: onState ?? (() => {}),
      onRestart: onRestart ?? (() => {}),
      advise: advise ?? (async () => ({})),
    };
  }

  /** Whether there is nothing more to come: a terminal event arrived, or the server refuses the stream. */
  get isOver() {
    return this.#isFinished || this.state.phase === "refused";
  }

  /** Connect, from the cursor if there is one. Does nothing while connected, and once finished or refused. */
  open() {
    if (!this.state.isClosed || this.isOver) return;
    this.#connect("connecting", this.cursor ? `from ${this.cursor}` : "from the beginning");
  }

  /** Drop the connection and take it up again from the cursor, as after a broken network. */
  reconnect() {
    if (this.#isFinished || this.state.isClosed) return;
    this.#connect("reconnecting", "dropped on request");
  }

  /** The network is back: do not wait for the next retry. */
  networkReturned() {
    if (this.state.phase === "reconnecting") this.#connect("reconnecting", "the network is back");
  }

  /** Give the connection up while nobody looks; `open` continues from the cursor. */
  pause(reason) {
    if (this.state.isClosed) return;
    this.#disconnect();
    if (this.#isFinished) this.#enter("finished", "", true);
    else this.#enter("paused", reason, true);
  }

  /** Stop for good, without a word. */
  close() {
    this.#disconnect();
    this.state = { ...this.state, isClosed: true };
  }

  #enter(phase, reason = "", isClosed = false) {
    const { phase: oldPhase, reason: oldReason, isClosed: wasClosed } = this.state;
    if (phase === oldPhase && reason === oldReason && isClosed === wasClosed) return;
    this.state = { phase, reason, isClosed };
    this.#handlers.onState(this.state);
  }

  #disconnect() {
    clearTimeout(this.#retryTimer);
    this.#watch.stop();
    this.#source?.close();
    this.#source = null;
  }

  #connect(phase, reason) {
    this.#disconnect();
    this.#enter(phase, reason);
    const url = new URL(this.#path, location.href);
    url.searchParams.set("heartbeat", "event");
    if (this.cursor) url.searchParams.set("last_event_id", this.cursor);
    const source = new EventSource(url);
    for (const type of this.#types) {
      // `error` and `open` are also what the browser calls its own news, which carries no data.
      source.addEventListener(type, (event) => {
        if (source !== this.#source) return;
        if (event instanceof MessageEvent) this.#receive(event);
        else if (type === "open") this.#opened();
        else this.#lost();
      });
    }
    this.#source = source;
    this.#watch.start();
  }

  #opened() {
    this.#watch.heard();
    if (!this.#isFinished) this.#enter("live", `since ${new Date().toLocaleTimeString()}`);
  }

  #receive(event) {
    this.#failures = 0;
    if (event.type === "heartbeat") {
      this.#watch.heartbeat();
      return;
    }
    this.#watch.heard();
    if (event.lastEventId) this.cursor = event.lastEventId;
    const id = hasOwnId(event) ? event.lastEventId : null;
    if (this.#terminal.has(event.type)) {
      this.#isFinished = true;
      this.#enter("finished", "the browser comes back once more and is told 204");
    } else if (this.#isFinished && event.type === "attempt") {
      this.#isFinished = false; // somebody ran the ended task again before the browser had come back
      this.#enter("live", "the task was run again");
    }
    this.#handlers.onEvent({ id, type: event.type, data: parseData(event.data) });
  }

  /** The browser's `error`: it retries by itself (readyState 0) or has given up (2). */
  #lost() {
    this.#watch.heard();
    const hasGivenUp = this.#source.readyState === EventSource.CLOSED;
    if (this.#isFinished) {
      // Expected after the terminal event. The source stays open so that the server's 204 ends it.
      if (hasGivenUp) this.#finish("the server answered 204, the browser stopped");
    } else if (hasGivenUp) {
      this.#disconnect();
      this.#revive();
    } else {
      this.#enter("reconnecting", "the connection ended, the browser retries");
    }
  }

  #finish(reason) {
    this.#disconnect();
    this.#enter("finished", reason, true);
  }

  #replaceSilent(silentMs) {
    if (this.#isFinished) this.#finish("");
    else this.#connect("reconnecting", `nothing heard for ${Math.round(silentMs / 1000)} s`);
  }

  async #revive() {
    const wait = Math.min(FIRST_RETRY_MS * 2 ** this.#failures++, LONGEST_RETRY_MS) * (0.75 + Math.random() / 2);
    this.#enter("reconnecting", `the browser gave up, next try in ${Math.ceil(wait / 1000)} s`);
    const state = this.state;
    const advice = await this.#handlers.advise(this.cursor);
    if (this.state !== state) return; // paused, closed or connected while we asked
    if (advice.refusal) {
      this.#enter("refused", advice.refusal, true);
      return;
    }
    if (advice.fromStart) {
      this.cursor = null;
      this.#handlers.onRestart();
    }
    this.#retryTimer = setTimeout(() => this.#connect("reconnecting", "trying again"), wait);
  }
}

/**
 * An EventSource shows each event with the last id it has seen, whether the event has brought it or not. An
 * `attempt` opens its generation at sequence 0, or is told without an id where the opening has been trimmed.
 */
function hasOwnId({ type, lastEventId }) {
  if (!lastEventId || WITHOUT_ID.has(type)) return false;
  return type !== "attempt" || lastEventId.endsWith("-0");
}

function parseData(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text; // data is JSON by convention only
  }
}
