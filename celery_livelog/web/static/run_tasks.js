/** `<live-log-run-tasks root="/livelog" run="ID">`: the attempts of a run's tasks, kept up to date. */

import { ask } from "./address.js";
import { count, element } from "./dom.js";
import { runtime, startTime, stateBadge } from "./task_states.js";

const INTERVAL = 2000; // ms between looks
const COLUMNS = ["Task", "State", "Started", "Runtime", "Lines", "Worker"];

class LiveLogRunTasks extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.body = element("tbody");
    const head = element("tr", "", ...COLUMNS.map((name) => element("th", "", name)));
    const table = element("table", "tasks-table table", element("thead", "", head), this.body);
    this.replaceChildren(element("section", "tasks-table-card", element("div", "table-responsive", table)));
    this.#look();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  async #look() {
    try {
      const run = encodeURIComponent(this.getAttribute("run"));
      const { ok, body } = await ask(`${this.getAttribute("root")}/api/runs/${run}`);
      if (ok) this.body.replaceChildren(...body.attempts.map((attempt) => this.#row(attempt)));
    } catch {
      // The server is away: what was last known stays.
    }
    this.#timer = setTimeout(() => this.#look(), INTERVAL);
  }

  #row(attempt) {
    const link = element("a", "", attempt.name || attempt.task_id);
    link.href = `${this.getAttribute("root")}/task/${encodeURIComponent(attempt.task_id)}`;
    link.title = attempt.task_id;
    const { state, lines, worker } = attempt;
    const cells = [link, stateBadge(state), startTime(attempt), runtime(attempt), count(lines), worker];
    return element("tr", "", ...cells.map((content) => element("td", "", content)));
  }
}

customElements.define("live-log-run-tasks", LiveLogRunTasks);
