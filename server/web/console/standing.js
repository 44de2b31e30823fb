/**
 * Which of a task's events still stand. A new attempt takes back what its predecessor emitted after the
 * point it resumes from; what was taken back must not stay on the screen.
 */

import { compareIds } from "./ids.js";

/** The events that end a task, and the status each of them leaves behind. */
export const STATUS_AFTER = new Map([
  ["complete", "completed"],
  ["error", "failed"],
  ["cancelled", "cancelled"],
]);

/** The statuses of a task that has ended. */
export const ENDED = new Set(STATUS_AFTER.values());

/** Types the page listens for. An EventSource cannot ask for all of them; others can be added on the page. */
export const KNOWN_TYPES = [
  "attempt", "checkpoint", "complete", "error", "cancelled", "position", "gap", "stalled",
  "progress", "token", "thought", "conclusion", "tick", "log",
  "start", "step", "status", "info", "warning", "result", "data", "update", "metric", "artifact",
  "tool_call", "tool_result",
];

/**
 * The events that remain after an `attempt` event.
 * @param {import("./follow.js").StreamEvent[]} events  in the order of arrival
 * @param {{resume_from?: string|null}} attempt  data of the `attempt` event
 * @returns {import("./follow.js").StreamEvent[]}
 */
export function standingAfter(events, attempt) {
  const { resume_from: resumeFrom } = attempt;
  if (!resumeFrom) return [];
  const last = events.findLastIndex(({ id }) => id !== null && compareIds(id, resumeFrom) <= 0);
  return events.slice(0, last + 1);
}
