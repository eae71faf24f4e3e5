/** `<live-log-stages root="/livelog" run="ID">`: the stages of a run and how far they are, kept up to date. */

import { ask } from "./address.js";
import { count, duration, element } from "./dom.js";
import { runState } from "./task_states.js";

const INTERVAL = 1000; // ms between looks at a run that is not over

class LiveLogStages extends HTMLElement {
  #timer = 0;
  #drawn = "";

  connectedCallback() {
    this.#look();
    document.addEventListener("visibilitychange", this.#wake);
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#wake);
  }

  #wake = () => {
    if (!document.hidden) this.#look();
  };

  async #look() {
    clearTimeout(this.#timer);
    let over = false;
    try {
      const { ok, status, body } = await ask(this.#address("api/runs"));
      if (ok) this.#draw(body);
      over = ok ? body.state !== "RUNNING" : status < 500;
    } catch {
      // The server is away: what was last known stays.
    }
    // A run that seems over may get one more task.
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(), over ? 10 * INTERVAL : INTERVAL);
  }

  #address(place, file = "") {
    return `${this.getAttribute("root")}/${place}/${encodeURIComponent(this.getAttribute("run"))}${file}`;
  }

  #draw(run) {
    const drawn = JSON.stringify([run.state, run.name, run.stages]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const page = element("a", "ll-stages-run", run.name || run.run_id);
    page.href = this.#address("run");
    const file = element("a", "ll-button", "progress.jsonl");
    file.href = this.#address("run", "/progress.jsonl");
    const head = element("header", "ll-stages-head", page, runState(run.state), file);
    const items = run.stages.length ? run.stages.map(item) : [element("li", "ll-stage-none", "No stage has begun.")];
    const made = element("section", "ll-stages", head, element("ol", "ll-stage-list", ...items));
    made.setAttribute("aria-label", "Stages");
    this.replaceChildren(made);
  }
}

function item({ name, state, done, total, elapsed, message, error }) {
  const took = state === "complete" && elapsed != null ? ` in ${duration(elapsed)}` : "";
  return element("li", `ll-stage-item ll-stage-${state}`,
    element("span", "ll-stage-name", name), " ",
    ...(total ? [bar(done, total), " "] : []),
    element("span", "ll-stage-done", done || total ? `${count(done)}${total ? ` of ${count(total)}` : ""}` : ""), " ",
    element("span", "ll-stage-state", `${state}${took}`), " ",
    element("span", "ll-stage-message", error || message));
}

function bar(done, total) {
  const made = element("progress", "ll-bar");
  [made.max, made.value] = [total, done];
  return made;
}

customElements.define("live-log-stages", LiveLogStages);
