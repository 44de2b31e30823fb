/**
 * The event types the page listens for: those it knows and those the user adds. An EventSource hears only
 * the types it was told of, so a task with types of its own needs them named once; the browser remembers.
 */

import { KNOWN_TYPES } from "./standing.js";

const STORAGE_KEY = "reprise.event-types";

/** @returns {string[]} */
export function addedTypes() {
  try {
    return split(localStorage.getItem(STORAGE_KEY) ?? "");
  } catch {
    return []; // storage can be switched off
  }
}

/**
 * @param {string} text  names separated by spaces or commas
 * @returns {string[]} what is remembered from now on
 */
export function rememberTypes(text) {
  const types = split(text);
  try {
    localStorage.setItem(STORAGE_KEY, types.join(" "));
  } catch {
    // They hold until the page is left.
  }
  return types;
}

/**
 * @param {string[]} added
 * @returns {string[]} every type to listen for
 */
export function typesToHear(added) {
  return [...new Set([...KNOWN_TYPES, ...added])];
}

function split(text) {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean))];
}
