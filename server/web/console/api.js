/**
 * The HTTP requests of the page. Every refusal becomes a `Problem` whose message a person can act on; event
 * streams are not opened here (see follow.js).
 */

/** A refusal by the server (`status` from its problem document) or no answer at all (`status` 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {object} [document]  the RFC 9457 document, for its extension members
   */
  constructor(status, message, document = {}) {
    super(message);
    this.status = status;
    this.document = document;
  }

  /** Whether the same request can succeed later without anybody changing it. */
  get isTemporary() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

const ANSWER_WITHIN_MS = 15_000; // nothing asked for here takes the server long; a dead path never answers
const SEND_AGAIN_AFTER_MS = [500, 1000, 2000, 4000];

/** @returns {Promise<Array<{name: string, description: string, input_schema: object}>>} what live workers offer */
export async function getTaskTypes() {
  return (await request("GET", "/task-types")).task_types;
}

/**
 * @param {number} limit
 * @returns {Promise<object[]>} task records, newest first
 */
export async function listTasks(limit) {
  return (await request("GET", `/tasks?limit=${limit}`)).tasks;
}

/**
 * @param {string} id
 * @returns {Promise<object>} the task record
 */
export function getTask(id) {
  return request("GET", `/tasks/${encodeURIComponent(id)}`);
}

/**
 * Create a task and queue it. The key makes repeating harmless, so an answer that got lost is asked for again.
 * @param {string} type
 * @param {object} input
 * @returns {Promise<object>} the task record
 * @throws {Problem} 422 with the field that breaks the schema, and every other refusal
 */
export async function startTask(type, input) {
  const headers = { "Idempotency-Key": newKey() };
  for (const delay of SEND_AGAIN_AFTER_MS) {
    try {
      return await request("POST", "/tasks", { type, input }, headers);
    } catch (problem) {
      if (!problem.isTemporary) throw problem;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
  return request("POST", "/tasks", { type, input }, headers);
}

/**
 * Ask for a task to end; it has ended when its stream says `cancelled`.
 * @param {string} id
 */
export function cancelTask(id) {
  return request("POST", `/tasks/${encodeURIComponent(id)}/cancel`);
}

/** 128 random bits. Not `crypto.randomUUID`, which exists on https and localhost only. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(method, path, body, headers = {}) {
  const options = {
    method,
    headers: { Accept: "application/json", ...headers },
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new Problem(0, "The server does not answer. Is it running?");
  }
  if (response.ok) return JSON.parse(text);
  throw refusal(response, text);
}

/** A proxy in between may answer with a page of its own, which holds no sentence to show. */
function refusal({ status, statusText }, text) {
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    // Told by its status alone.
  }
  return new Problem(status, document.detail ?? `The server answered ${status} ${statusText}.`, document);
}
