/**
 * Choosing a task type, filling in its form, starting it. Knows nothing of what happens to the task then.
 */

import { Problem, getTaskTypes, startTask } from "./api.js";
import { byId, el, showText } from "./dom.js";
import { SchemaForm } from "./schema-form.js";

const ASK_AGAIN_AFTER_MS = 3_000; // `reprise dev` needs about as long to bring its worker up

export class StartPanel {
  #form = byId("start-form");
  #select = byId("type");
  #description = byId("type-description");
  #button = byId("start");
  #problem = byId("start-problem");
  #fields = new SchemaForm(byId("fields"));
  #types = new Map();
  #onStarted;

  /** @param {(task: object) => void} onStarted */
  constructor(onStarted) {
    this.#onStarted = onStarted;
    this.#select.addEventListener("change", () => this.#showType());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
  }

  /** Ask for the task types until there are some. */
  async load() {
    try {
      const types = await getTaskTypes();
      if (types.length > 0) {
        this.#offer(types);
        return;
      }
      showText(this.#problem, "No worker is connected yet. Waiting for one…");
    } catch (problem) {
      showText(this.#problem, problem.message);
    }
    setTimeout(() => this.load(), ASK_AGAIN_AFTER_MS);
  }

  #offer(types) {
    this.#types = new Map(types.map((type) => [type.name, type]));
    this.#select.replaceChildren(...types.map(({ name }) => el("option", { value: name }, name)));
    this.#select.disabled = false;
    this.#button.disabled = false;
    showText(this.#problem, null);
    this.#showType();
  }

  #showType() {
    const type = this.#types.get(this.#select.value);
    this.#description.hidden = !type.description;
    this.#description.replaceChildren(...withCode(type.description ?? ""));
    this.#form.dataset.type = type.name;
    this.#fields.show(type.input_schema);
    showText(this.#problem, null);
  }

  async #start() {
    this.#button.disabled = true;
    this.#fields.clearProblems();
    showText(this.#problem, null);
    try {
      this.#onStarted(await startTask(this.#select.value, this.#fields.read()));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      showText(this.#problem, this.#fields.showProblem(problem));
    } finally {
      this.#button.disabled = false;
    }
  }
}

/** Descriptions are docstrings, where `backquotes` mark code. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}
