/**
 * Keeps the end of a scrolling element in view while it grows, unless the reader has scrolled away from it.
 */

const NEAR_THE_END_PX = 40;

/** One per element that scrolls. */
export class EndKeeper {
  #element;
  #isAsked = false;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.#element = element;
  }

  /** To be called before the element grows. Scrolls once per painted frame: a replay adds thousands of parts. */
  beforeGrowth() {
    if (this.#isAsked || !this.#isAtEnd()) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      this.#element.scrollTop = this.#element.scrollHeight;
    });
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#element;
    return scrollHeight - scrollTop - clientHeight < NEAR_THE_END_PX;
  }
}
