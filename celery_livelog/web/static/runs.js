/** `<live-log-runs root="/livelog">`: the newest runs, kept up to date. */

import { ask } from "./address.js";
import { count, element } from "./dom.js";
import { Polled } from "./polled.js";
import { runState, runtime, startTime } from "./task_states.js";

const INTERVAL = 2000; // ms between looks
const COLUMNS = ["Run", "State", "Started", "Runtime", "Tasks", "Account", "Site"];

class LiveLogRuns extends Polled {
  #drawn = "";

  connectedCallback() {
    this.body = element("tbody");
    this.empty = element("p", "empty-table-message", "");
    const head = element("tr", "", ...COLUMNS.map((name) => element("th", "", name)));
    const table = element("table", "tasks-table table", element("thead", "", head), this.body);
    this.replaceChildren(element("section", "tasks-table-card", element("div", "table-responsive", table), this.empty));
    super.connectedCallback();
  }

  async look() {
    try {
      const { ok, body } = await ask(`${this.getAttribute("root")}/api/runs`);
      if (ok) this.#draw(body.runs);
      else this.empty.textContent = body.error ?? "Not available";
    } catch {
      // The server is away: what was last known stays.
    }
    return INTERVAL;
  }

  #draw(runs) {
    const drawn = JSON.stringify(runs) + runs.map((run) => (run.ended ? "" : runtime(run))).join();
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.empty.textContent = runs.length ? "" : "No run has begun yet; runs appear here by themselves.";
    this.empty.hidden = runs.length > 0;
    this.body.replaceChildren(...runs.map((run) => this.#row(run)));
  }

  #row(run) {
    const link = element("a", "", run.name || run.run_id);
    link.href = `${this.getAttribute("root")}/run/${encodeURIComponent(run.run_id)}`;
    link.title = run.run_id;
    const cells = [link, runState(run.state), startTime(run), runtime(run), tasks(run), run.account, run.site];
    return element("tr", "", ...cells.map((content) => element("td", "", content)));
  }
}

function tasks({ tasks: all, running, failed }) {
  const parts = [count(all), running ? `${count(running)} running` : "", failed ? `${count(failed)} failed` : ""];
  return parts.filter(Boolean).join(", ");
}

customElements.define("live-log-runs", LiveLogRuns);
