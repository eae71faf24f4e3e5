/**
 * `<live-log-stages root="/livelog" run="ID">`: the stages of a run and how far they are, kept up to date.
 *
 * With `query="account=a1&field.project_id=7"` in place of `run`, of the newest of these runs, which changes with time.
 */

import { ask } from "./address.js";
import { count, duration, element } from "./dom.js";
import { Polled } from "./polled.js";
import { runState } from "./task_states.js";

const INTERVAL = 1000; // ms between looks at a run that is not over
const LOGGED_OUT = 403; // no answer to that changes before the page is loaded again

class LiveLogStages extends Polled {
  #drawn = "";

  async look() {
    let over = false;
    try {
      const { ok, status, body } = await this.#ask();
      if (status === LOGGED_OUT) return 0;
      if (ok) this.#draw(body);
      over = ok && body.run.state !== "RUNNING";
    } catch {
      // The server is away: what was last known stays.
    }
    // A run that seems over may get one more task, and another run may begin.
    return over ? 3 * INTERVAL : INTERVAL;
  }

  async #ask() {
    if (this.hasAttribute("run")) return ask(this.#address("api/runs", this.getAttribute("run")));
    const newest = await ask(`${this.getAttribute("root")}/api/runs?limit=1&${this.getAttribute("query")}`);
    const id = newest.ok && newest.body.runs[0]?.run_id;
    return id ? ask(this.#address("api/runs", id)) : { ok: false, status: newest.status };
  }

  #address(place, id, file = "") {
    return `${this.getAttribute("root")}/${place}/${encodeURIComponent(id)}${file}`;
  }

  #draw({ run, stages }) {
    const drawn = JSON.stringify([run.run_id, run.state, run.name, stages]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const page = element("a", "ll-stages-run", run.name || run.run_id);
    page.href = this.#address("run", run.run_id);
    const file = element("a", "ll-button", "progress.jsonl");
    file.href = this.#address("run", run.run_id, "/progress.jsonl");
    const head = element("div", "ll-stages-head", page, runState(run.state), file);
    const items = stages.length ? stages.map(item) : [element("li", "ll-stage-none", "No stage has begun.")];
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
