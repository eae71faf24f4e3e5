/** `<live-log-head root="/livelog" task="ID">`: what is known of a task besides its log, kept up to date. */

import { ask } from "./address.js";
import { element } from "./dom.js";
import { runtime, startTime, stateBadge } from "./task_states.js";

const INTERVAL = 2000; // ms between looks at a task that runs

class LiveLogHead extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.#look();
    // The log tells of an end sooner than the next look would; the catalog has it a moment later.
    addEventListener("livelog-end", this.#soon, { capture: true });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    removeEventListener("livelog-end", this.#soon, { capture: true });
  }

  #soon = () => this.#lookIn(300);

  #lookIn(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), delay);
  }

  async #look() {
    let ended = false;
    try {
      const task = encodeURIComponent(this.getAttribute("task"));
      const { ok, body } = await ask(`${this.getAttribute("root")}/api/tasks/${task}`);
      if (ok) this.#draw(body.attempts);
      ended = ok && Boolean(body.attempts.at(-1).ended);
    } catch {
      // The server is away: the log beside this says so.
    }
    this.#lookIn(ended ? 5 * INTERVAL : INTERVAL); // a retry may follow an end
  }

  #draw(attempts) {
    const last = attempts.at(-1);
    const facts = [
      stateBadge(last.state),
      fact("Started", startTime(last)),
      fact("Runtime", runtime(last)),
      fact("Worker", last.worker),
      ...(attempts.length > 1 ? [fact("Attempts", String(attempts.length))] : []),
      ...(last.queue ? [fact("Queue", last.queue)] : []),
    ];
    this.replaceChildren(element("h1", "ll-name", last.name || "Task"), element("div", "ll-facts", ...facts));
  }
}

function fact(name, value) {
  return element("span", "ll-fact", element("span", "ll-fact-name", name), " ", value);
}

customElements.define("live-log-head", LiveLogHead);
