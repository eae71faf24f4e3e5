/** `<live-log-tasks root="/livelog">`: running and recent tasks, kept up to date. */

import { ask } from "./address.js";
import { count, element } from "./dom.js";
import { Polled } from "./polled.js";
import { runtime, startTime, stateBadge } from "./task_states.js";

const INTERVAL = 2000; // ms between looks
const MOST = 500; // tasks

const FILTERS = [
  ["All", () => true],
  ["Running", ({ ended }) => !ended],
  ["Succeeded", ({ state }) => state === "SUCCESS"],
  ["Failed", ({ state }) => ["FAILURE", "LOST", "ABORTED", "REVOKED"].includes(state)],
];

const COLUMNS = {
  Task: (task, root) => link(task.name || "unknown", task, root),
  UUID: (task, root) => [element("code", "text-body-secondary", link(task.task_id, task, root))],
  State: ({ state, retries }) => [stateBadge(state), retries ? element("span", "ll-retries", `retry ${retries}`) : ""],
  Started: (task) => [startTime(task)],
  Runtime: (task) => runtime(task),
  Lines: ({ ended, lines, skipped }) => !ended ? "" : `${count(lines)}${skipped ? ` (${count(skipped)} skipped)` : ""}`,
  Worker: ({ worker }) => worker,
};

class LiveLogTasks extends Polled {
  #tasks = [];
  #filter = FILTERS[0][1];
  #rows = new Map(); // task id -> { row, drawn }

  connectedCallback() {
    this.root = this.getAttribute("root");
    this.#build();
    super.connectedCallback();
  }

  async look() {
    try {
      const { ok, body } = await ask(`${this.root}/api/tasks?limit=${MOST}`);
      if (ok) this.#tasks = body.tasks;
      if (ok) this.#tell("live", "Live");
      else this.#tell("refused", body.error ?? "Not available");
    } catch {
      this.#tell("reconnecting", "Reconnecting");
    }
    this.#draw();
    return INTERVAL;
  }

  #tell(state, label) {
    this.badge.textContent = label;
    this.badge.className = `ll-badge ll-badge-${state}`;
  }

  #draw() {
    const wanted = this.input.value.trim().toLowerCase();
    const shown = this.#tasks.filter((task) => this.#filter(task) && text(task).includes(wanted));
    const rows = shown.map((task) => this.#row(task));
    if (rows.length !== this.body.children.length || rows.some((row, at) => row !== this.body.children[at])) {
      this.body.replaceChildren(...rows);
    }
    const known = new Set(this.#tasks.map(({ task_id }) => task_id));
    for (const id of this.#rows.keys()) if (!known.has(id)) this.#rows.delete(id);
    this.empty.hidden = shown.length > 0;
    this.empty.textContent = this.#tasks.length
      ? "No task matches the filter."
      : "No task has run yet since livelog was switched on; tasks appear here by themselves.";
    this.total.textContent = `${count(shown.length)} of ${count(this.#tasks.length)} tasks`;
  }

  /** The row of a task; a new one only when something of the task has changed, so that focus and selection stay. */
  #row(task) {
    const drawn = JSON.stringify(task) + (task.ended ? "" : runtime(task));
    const known = this.#rows.get(task.task_id);
    if (known?.drawn === drawn) return known.row;
    const row = known?.row ?? element("tr");
    row.replaceChildren(...Object.values(COLUMNS).map((cell) => element("td", "", ...[cell(task, this.root)].flat())));
    this.#rows.set(task.task_id, { row, drawn });
    return row;
  }

  #build() {
    this.badge = element("span", "ll-badge");
    this.total = element("span", "ll-total");
    this.input = element("input", "form-control ll-filter");
    Object.assign(this.input, { type: "search", placeholder: "Filter by name, id, worker or state" });
    this.input.setAttribute("aria-label", "Filter tasks");
    this.input.addEventListener("input", () => this.#draw());
    const filters = element("nav", "task-state-filters", ...FILTERS.map((filter) => this.#pill(...filter)));
    filters.setAttribute("aria-label", "Filter tasks by state");
    this.body = element("tbody");
    this.empty = element("p", "empty-table-message mb-0");
    const head = element("tr", "", ...Object.keys(COLUMNS).map((name) => element("th", "", name)));
    const table = element("table", "tasks-table table table-hover align-middle w-100 mb-0",
      element("thead", "", head), this.body);
    const card = element("section", "tasks-table-card",
      element("div", "ll-list-head", this.input, this.total, this.badge),
      element("div", "table-responsive", table), this.empty);
    card.setAttribute("aria-label", "Tasks");
    this.replaceChildren(filters, card);
  }

  #pill(label, filter) {
    const made = element("button", "task-state-filter", label);
    made.type = "button";
    const active = filter === this.#filter;
    made.classList.toggle("active", active);
    made.setAttribute("aria-pressed", active);
    made.addEventListener("click", () => {
      this.#filter = filter;
      for (const other of made.parentElement.children) {
        other.classList.toggle("active", other === made);
        other.setAttribute("aria-pressed", other === made);
      }
      this.#draw();
    });
    return made;
  }
}

const text = ({ name, task_id: id, worker, state }) => `${name} ${id} ${worker} ${state}`.toLowerCase();

function link(label, { task_id: id }, root) {
  const made = element("a", "", label);
  made.href = `${root}/task/${encodeURIComponent(id)}`;
  return made;
}

customElements.define("live-log-tasks", LiveLogTasks);
