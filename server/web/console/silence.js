/**
 * Notices a connection that is open but dead. A path that swallows packets goes unseen by the browser for up
 * to ten minutes; the server's heartbeats make it visible after three missed ones.
 */

const DEFAULT_INTERVAL_MS = 15_000; // the server's default, until two heartbeats in a row show the real one
const SHORTEST_INTERVAL_MS = 1_000; // two heartbeats that waited for a busy page arrive together
const LONGEST_INTERVAL_MS = 120_000;
const MISSED_HEARTBEATS = 3;
const CHECK_EVERY_MS = 1_000;

/** Watches one connection at a time; what it learned of the interval holds for the next. */
export class SilenceWatch {
  #onSilence;
  #timer = null;
  #heardAt = 0;
  #lastWasHeartbeat = false;
  #learned = 0;

  /** @param {(silentMs: number) => void} onSilence  called once per silence; `start` arms the watch again */
  constructor(onSilence) {
    this.#onSilence = onSilence;
  }

  /** Begin a new connection: silence counts from now. */
  start() {
    this.stop();
    this.heard();
    this.#timer = setInterval(() => this.#check(), CHECK_EVERY_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Something other than a heartbeat arrived. */
  heard() {
    this.#heardAt = performance.now();
    this.#lastWasHeartbeat = false;
  }

  /** A heartbeat arrived. Only two with nothing in between tell the interval: events postpone the next one. */
  heartbeat() {
    const now = performance.now();
    if (this.#lastWasHeartbeat) this.#learned = Math.max(this.#learned, now - this.#heardAt);
    this.#heardAt = now;
    this.#lastWasHeartbeat = true;
  }

  get #intervalMs() {
    if (!this.#learned) return DEFAULT_INTERVAL_MS;
    return Math.min(Math.max(this.#learned, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS);
  }

  #check() {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs <= MISSED_HEARTBEATS * this.#intervalMs) return;
    this.stop();
    this.#onSilence(silentMs);
  }
}
