/**
 * The list of recent tasks. It is read again when asked, and at intervals while the page is visible; what
 * the stream of all tasks says about a listed task shows at once.
 */

import { listTasks } from "./api.js";
import { el, showText } from "./dom.js";

const MOST_TASKS = 15;
const REFRESH_EVERY_MS = 10_000; // nothing tells of other tasks while one is followed: the page holds one stream
const SETTLE_MS = 250; // a burst of updates is one request

/** The rows of the list, in the order of the server: newest first. */
export class RecentTasks {
  #list;
  #message;
  #rows = new Map();
  #openId = null;
  #timer = null;
  #refreshTimer = null;
  #isReading = false;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} message  shown instead of the list when there is nothing to list
   */
  constructor(list, message) {
    this.#list = list;
    this.#message = message;
  }

  /** Read the list now and from time to time. */
  start() {
    this.stop();
    this.#timer = setInterval(() => this.refresh(), REFRESH_EVERY_MS);
    this.refresh();
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = null;
  }

  /** Read the list again soon. */
  refresh() {
    this.#refreshTimer ??= setTimeout(() => {
      this.#refreshTimer = null;
      this.#read();
    }, SETTLE_MS);
  }

  /** @param {string|null} id  the task that is followed */
  markOpen(id) {
    this.#openId = id;
    for (const [rowId, row] of this.#rows) markCurrent(row, rowId === id);
  }

  /** @param {{task_id: string, status: string, progress: number|null}} update */
  update({ task_id: id, status, progress }) {
    const row = this.#rows.get(id);
    if (row) showStanding(row, status, progress);
    else this.refresh();
  }

  async #read() {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      this.#show(await listTasks(MOST_TASKS));
    } catch (problem) {
      if (this.#rows.size === 0) showText(this.#message, problem.message);
    } finally {
      this.#isReading = false;
    }
  }

  /** Rows are kept and moved only if they must be, so that keyboard focus stays where it is. */
  #show(tasks) {
    showText(this.#message, tasks.length ? null : "None yet.");
    this.#rows = new Map(tasks.map((task) => [task.id, this.#rows.get(task.id) ?? makeRow(task)]));
    for (const task of tasks) showStanding(this.#rows.get(task.id), task.status, task.progress);
    this.markOpen(this.#openId);
    const rows = [...this.#rows.values()];
    rows.forEach((row, index) => {
      if (this.#list.children[index] !== row) this.#list.insertBefore(row, this.#list.children[index] ?? null);
    });
    while (this.#list.childElementCount > rows.length) this.#list.lastElementChild.remove();
  }
}

function makeRow({ id, type, title, created_at: createdAt }) {
  const time = new Date(createdAt ?? 0);
  return el("li", { "data-task-id": id },
    el("a", { href: `#task=${encodeURIComponent(id)}`, class: "recent" },
      el("span", { class: "recent-name" }, title || type),
      el("span", { class: "recent-progress" }),
      el("span", { class: "chip" }),
      el("time", { datetime: time.toISOString(), title: id }, time.toLocaleTimeString())));
}

function showStanding(row, status, progress) {
  const chip = row.querySelector(".chip");
  chip.dataset.status = status;
  chip.textContent = status;
  const isMoving = status === "running" && typeof progress === "number";
  row.querySelector(".recent-progress").textContent = isMoving ? `${Math.round(progress)} %` : "";
}

function markCurrent(row, isCurrent) {
  const link = row.querySelector("a");
  if (isCurrent) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}
