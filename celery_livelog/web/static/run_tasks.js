/** `<live-log-run-tasks root="/livelog" run="ID">`: the tasks of a run, kept up to date. */

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
      if (ok) this.body.replaceChildren(...body.tasks.map((task) => this.#row(task)));
    } catch {
      // The server is away: what was last known stays.
    }
    this.#timer = setTimeout(() => this.#look(), INTERVAL);
  }

  #row(task) {
    const link = element("a", "", task.name || task.task_id);
    link.href = `${this.getAttribute("root")}/task/${encodeURIComponent(task.task_id)}`;
    link.title = task.task_id;
    const { state, lines, worker } = task;
    const cells = [link, stateBadge(state), startTime(task), runtime(task), count(lines), worker];
    return element("tr", "", ...cells.map((content) => element("td", "", content)));
  }
}

customElements.define("live-log-run-tasks", LiveLogRunTasks);
