/**
 * Puts the page together: which task the address names, and which one stream the page holds.
 *
 * A browser allows six connections per server over HTTP/1.1, shared by all tabs. So the page holds a single
 * stream, of the followed task or, when that has ended or there is none, of all tasks; and none while hidden.
 */

import { Problem, cancelTask, getTask } from "./api.js";
import { byId } from "./dom.js";
import { addedTypes, rememberTypes, typesToHear } from "./event-types.js";
import { Follower } from "./follow.js";
import { RecentTasks } from "./recent-tasks.js";
import { ENDED, STATUS_AFTER } from "./standing.js";
import { StartPanel } from "./start-panel.js";
import { TaskView } from "./task-view.js";

const REFUSED_FOR_GOOD = new Set([400, 401, 403, 404]);

const view = new TaskView();
const recent = new RecentTasks(byId("recent"), byId("recent-message"));
const startPanel = new StartPanel((task) => {
  location.hash = `task=${encodeURIComponent(task.id)}`;
  followAddress(); // at once: until `hashchange` the page would still show the task before
});
const allTasks = new Follower("/tasks/stream", {
  types: ["task_update", "position", "gap"],
  onEvent: ({ type, data }) => {
    if (type !== "task_update") return recent.refresh();
    recent.update(data);
    if (data.task_id === openId && !ENDED.has(data.status)) followAgain(openId);
  },
  onState: ({ phase }) => phase === "live" && recent.refresh(),
});
let extraTypes = addedTypes();
let openId = null;
/** Between pagehide and pageshow, when `document.hidden` may not say so yet. */
let isLeft = false;
/** @type {Follower|null} */
let followed = null;

/** Hold the one stream that matters now. */
function holdOneStream() {
  if (document.hidden || isLeft) {
    followed?.pause("the page is hidden");
    allTasks.pause("the page is hidden");
    recent.stop();
  } else if (followed && !followed.isOver) {
    allTasks.pause("a task is followed");
    followed.open();
  } else if (!followed || followed.state.isClosed) {
    allTasks.open();
  }
}

function follow(id) {
  // As they arrived, repeats included: what a test, or a doubtful user, can check the promises with.
  window.repriseEvents = [];
  return new Follower(`/tasks/${encodeURIComponent(id)}/events`, {
    types: typesToHear(extraTypes),
    terminal: STATUS_AFTER.keys(),
    onEvent: (event) => {
      window.repriseEvents.push(event);
      view.receive(event);
      tellRecent(id, event);
    },
    onState: (state) => {
      view.showConnection(state);
      if (state.isClosed) holdOneStream();
    },
    onRestart: () => {
      window.repriseEvents = [];
      view.restart();
    },
    advise: (cursor) => adviseOn(id, cursor),
  });
}

/** Keep the followed task's row in step; its own stream is the only one there is. */
function tellRecent(id, { type, data }) {
  const status = STATUS_AFTER.get(type) ?? "running";
  if (type === "stalled" && data?.reason === "retry") recent.update({ task_id: id, status: "pending", progress: null });
  else if (type === "progress") recent.update({ task_id: id, status, progress: data?.percentage ?? null });
  else if (type === "attempt" || STATUS_AFTER.has(type)) recent.update({ task_id: id, status, progress: null });
}

/** The browser cannot say why it gave up on a stream; the task's record can. */
async function adviseOn(id, cursor) {
  try {
    const record = await getTask(id);
    // A 204 although no terminal event was seen: it was received by nobody, so read everything again.
    return { fromStart: ENDED.has(record.status) && cursor === record.last_event_id };
  } catch (problem) {
    return REFUSED_FOR_GOOD.has(problem.status) ? { refusal: problem.message } : {};
  }
}

async function openTask(id) {
  followed?.close();
  followed = null;
  openId = id;
  byId("task").hidden = id === null;
  byId("welcome").hidden = id !== null;
  recent.markOpen(id);
  if (id !== null) {
    view.begin(id);
    followed = follow(id);
  }
  holdOneStream();
  if (id !== null) await describe(id);
}

/** The task's end has been shown, but somebody may have it run again. News of how it ran before may come late. */
async function followAgain(id) {
  const ended = followed;
  if (!ended?.isOver) return;
  try {
    const { status } = await getTask(id);
    if (followed === ended && !ENDED.has(status)) openTask(id);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem; // the next news asks again
  }
}

async function describe(id) {
  try {
    const record = await getTask(id);
    if (openId === id) view.describe(record);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem; // the stream tells a missing task or server itself
  }
}

async function cancel() {
  const id = openId;
  view.showCancelling(true);
  try {
    await cancelTask(id);
  } catch (problem) {
    if (openId !== id) return;
    view.showCancelling(false);
    view.showNotice(problem.message);
  }
}

function idInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("task") || null;
}

function followAddress() {
  const id = idInAddress();
  if (id === openId) return;
  openTask(id);
  if (id === null) return;
  const title = byId("title");
  title.focus({ preventScroll: true });
  const { top } = title.getBoundingClientRect();
  if (top < 0 || top > window.innerHeight / 2) byId("task").scrollIntoView({ block: "start" });
}

function becomeVisible() {
  recent.start();
  holdOneStream();
}

byId("cancel").addEventListener("click", cancel);
byId("reconnect").addEventListener("click", () => followed?.reconnect());
byId("extra-types").value = extraTypes.join(" ");
byId("extra-types").addEventListener("change", (event) => {
  extraTypes = rememberTypes(event.target.value);
  if (openId !== null) openTask(openId);
});
window.addEventListener("hashchange", followAddress);
document.addEventListener("visibilitychange", () => (document.hidden ? holdOneStream() : becomeVisible()));
window.addEventListener("pagehide", () => {
  isLeft = true;
  holdOneStream();
});
window.addEventListener("pageshow", (event) => {
  isLeft = false;
  if (event.persisted) becomeVisible();
});
window.addEventListener("online", () => {
  followed?.networkReturned();
  allTasks.networkReturned();
});

byId("terminal-example").textContent =
  `curl -N -H "Accept: text/event-stream" ${location.origin}/stream/countdown/10`;
startPanel.load();
recent.start();
openTask(idInAddress());
