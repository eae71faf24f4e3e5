/** An element that looks at its server again and again, as long as it is on a page that somebody sees. */
export class Polled extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.#poll();
    document.addEventListener("visibilitychange", this.#wake);
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#wake);
  }

  /** Look once; give the milliseconds until the next look, or nothing when there is to be none. */
  async look() {}

  #wake = () => {
    if (!document.hidden) this.#poll();
  };

  async #poll() {
    clearTimeout(this.#timer);
    const pause = await this.look();
    clearTimeout(this.#timer); // of another look that has ended meanwhile
    if (pause && this.isConnected && !document.hidden) this.#timer = setTimeout(() => this.#poll(), pause);
  }
}
