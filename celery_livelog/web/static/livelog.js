/**
 * `<live-log root="/livelog" task="ID">`: one task's log, live while it runs and whole after its end.
 *
 * With the attribute `poll` it asks by HTTP alone, for servers without a WebSocket; with `token` for one that wants it.
 */

import { Connection } from "./connection.js";
import { download } from "./download.js";
import { button, count, element } from "./dom.js";
import { recall, remember } from "./memory.js";
import { Rows } from "./rows.js";
import { Search } from "./search.js";
import { keepToken } from "./tokens.js";

const MOST_ROWS = 20_000; // on the page
const MOST_UNSEEN = 5000; // rows that may come while the reader looks at older ones, before the server is asked to wait
const BATCH = 5000; // records drawn at once; as many may wait, so that the next ones travel meanwhile
const FRAME = 16; // ms between draws
const FLOOD = { records: 500, frame: 120 }; // more than anybody can read: drawing less often leaves time to receive
const AT_END = 24; // px, about a row: so near the bottom is the bottom

const EMPTY =
  "No output yet. The task has not started, printed nothing so far, or its id is wrong; " +
  "new lines appear here by themselves.";
const EMPTY_AFTER_END = "This task printed nothing.";
const STATES = {
  connecting: "Connecting",
  waiting: "Waiting",
  live: "Live",
  reconnecting: "Reconnecting",
  ended: "Ended",
  refused: "Not available",
};

class LiveLog extends HTMLElement {
  #queue = [];
  #waiting = 0; // records in the queue
  #received = null; // the last one that the server has not been told of
  #drawing = false; // whether a draw is due
  #drawn = 0; // records in the last one
  #following = true;
  #unseen = 0;
  #lastTop = 0;
  #keys = {
    "/": () => this.searchInput.focus(),
    n: () => this.#step(1),
    N: () => this.#step(-1),
    G: () => this.#follow(true),
    End: () => this.#follow(true),
    f: () => this.followButton.click(),
    t: () => this.timesButton.click(),
    w: () => this.wrapButton.click(),
  };

  connectedCallback() {
    const root = this.getAttribute("root");
    const taskId = this.getAttribute("task");
    if (this.hasAttribute("token")) keepToken(root, this.getAttribute("token"));
    this.#build(`${root}/api/tasks/${encodeURIComponent(taskId)}/download`);
    this.rows = new Rows(this.lines, MOST_ROWS);
    this.search = new Search(this.lines, this.searchInput, this.found);
    this.connection = new Connection({
      root,
      taskId,
      tail: MOST_ROWS,
      poll: this.hasAttribute("poll"),
      onRecords: (batch) => this.#take(batch),
      onState: (state, sentence) => this.#tell(state, sentence),
    });
    this.connection.open();
    document.addEventListener("keydown", this.#key);
  }

  disconnectedCallback() {
    document.removeEventListener("keydown", this.#key);
    this.connection.close();
    this.sizes.disconnect();
  }

  // -- what the reader sees of the connection ------------------------------------------------------------------------

  #tell(state, sentence = "") {
    this.dataset.state = state;
    this.empty.textContent = sentence || (state === "ended" ? EMPTY_AFTER_END : EMPTY);
    this.#showState();
  }

  #showState() {
    const state = this.dataset.state === "live" && this.rows.count === 0 ? "waiting" : this.dataset.state;
    this.badge.textContent = STATES[state];
    this.badge.className = `ll-badge ll-badge-${state}`;
  }

  // -- from the connection to rows -----------------------------------------------------------------------------------

  #take(batch) {
    this.#queue.push(batch);
    this.#waiting += batch.records.length;
    const last = batch.records.findLast((record) => record.type !== "partial");
    if (last) this.#received = [batch.attempt, last.n];
    this.#acknowledge();
    this.#schedule();
  }

  /** Ask for more, as long as not too much waits to be drawn. */
  #acknowledge() {
    if (!this.#received || this.#waiting > BATCH) return;
    this.connection.acknowledge(...this.#received);
    this.#received = null;
  }

  #schedule() {
    if (this.#drawing) return;
    this.#drawing = true;
    setTimeout(() => this.#draw(), this.#drawn > FLOOD.records ? FLOOD.frame : FRAME);
  }

  #draw() {
    this.#drawing = false;
    this.#drawn = Math.min(this.#waiting, BATCH);
    for (let room = BATCH; room > 0 && this.#queue.length; ) {
      const { attempt, number, records } = this.#queue.shift();
      const [now, later] = [records.slice(0, room), records.slice(room)];
      if (later.length) this.#queue.unshift({ attempt, number, records: later });
      room -= now.length;
      this.#waiting -= now.length;
      const made = this.rows.add({ attempt, number, records: now });
      this.search.add(made);
      this.#unseen += made.length;
      if (now.some((record) => record.type === "log_line_end")) this.dispatchEvent(new CustomEvent("livelog-end"));
    }
    this.#acknowledge();
    if (this.#following) this.#toEnd();
    else if (this.#unseen > MOST_UNSEEN) this.connection.pause();
    this.#count();
    this.#showState();
    if (this.#queue.length) this.#schedule();
  }

  #count() {
    const seen = this.#unseen > MOST_UNSEEN ? `${count(MOST_UNSEEN)}+` : count(this.#unseen);
    this.resume.hidden = this.#following || this.#unseen === 0;
    this.resume.textContent = `↓ ${seen} new ${this.#unseen === 1 ? "line" : "lines"}`;
    this.head.hidden = !this.rows.beheaded;
    this.empty.hidden = this.rows.count > 0;
    this.total.textContent = this.rows.lines ? `${count(this.rows.lines)} ${this.rows.lines === 1 ? "line" : "lines"}` : "";
  }

  // -- following the end ---------------------------------------------------------------------------------------------

  #toEnd() {
    if (this.rows.trim()) this.search.forget();
    this.#unseen = 0;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#lastTop = this.scroller.scrollTop;
  }

  #follow(following) {
    this.#following = following;
    this.followButton.setAttribute("aria-pressed", following);
    if (following) {
      this.#toEnd();
      this.connection.resume();
    }
    this.#count();
  }

  /** Up means that the reader wants to stay; the bottom, that the reader wants to follow. */
  #scrolled() {
    const { scrollTop } = this.scroller;
    const atEnd = this.#below() < AT_END;
    const up = scrollTop < this.#lastTop - 1;
    this.#lastTop = scrollTop;
    if (this.#following ? up && !atEnd : atEnd && !up) this.#follow(!this.#following);
  }

  /** A turn of the wheel that goes beyond the end means the end, though it moves away while the page still scrolls. */
  #turned({ deltaY, deltaMode }) {
    const pixels = deltaMode === WheelEvent.DOM_DELTA_PIXEL ? deltaY : deltaY * AT_END;
    if (!this.#following && pixels > 0 && pixels > this.#below() - AT_END) this.#follow(true);
  }

  /** Pixels of the log below what is in view. */
  #below() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight;
  }

  // -- the parts -----------------------------------------------------------------------------------------------------

  #build(whole) {
    this.badge = element("span", "ll-badge");
    this.badge.setAttribute("role", "status");
    this.total = element("span", "ll-total");
    this.searchInput = element("input", "ll-search");
    Object.assign(this.searchInput, { type: "search", placeholder: "Search", title: "Search what is loaded (/)" });
    this.searchInput.setAttribute("aria-label", "Search what is loaded");
    this.found = element("span", "ll-found");
    this.found.setAttribute("aria-live", "polite");
    this.followButton = this.#toggle("Follow", "Keep the newest line in view (f)", true, (on) => this.#follow(on));
    this.timesButton = this.#viewToggle("Times", "Show the time of each line (t)", "ll-times");
    this.wrapButton = this.#viewToggle("Wrap", "Break long lines (w)", "ll-wrap");
    const save = download(element("a", "ll-button", "Download"), whole);
    save.title = "The whole log as a text file";
    const toolbar = element("div", "ll-toolbar",
      this.badge, this.total, element("span", "ll-space"),
      element("span", "ll-searching", this.searchInput, this.found,
        button("ll-button ll-narrow", "↑", "Previous (N, Shift+Enter)", () => this.#step(-1)),
        button("ll-button ll-narrow", "↓", "Next (n, Enter)", () => this.#step(1))),
      this.followButton, this.timesButton, this.wrapButton, save,
    );
    this.#buildLog(whole);
    this.replaceChildren(toolbar, this.scroller, this.resume);
  }

  #buildLog(whole) {
    const save = download(element("a", "", "Download the whole log"), whole);
    this.head = element("div", "ll-head", "Earlier lines are not shown here. ", save);
    this.empty = element("div", "ll-empty", EMPTY);
    this.lines = element("div", "ll-lines");
    this.scroller = element("div", "ll-scroll", this.head, this.empty, this.lines);
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute("role", "log");
    this.scroller.setAttribute("aria-live", "off"); // a log can be far too fast to be read out
    this.scroller.setAttribute("aria-label", "Task log");
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.scroller.addEventListener("wheel", (event) => this.#turned(event), { passive: true });
    this.resume = button("ll-resume", "", "Back to the newest line", () => this.#follow(true));
    this.head.hidden = this.resume.hidden = true;
    this.sizes = new ResizeObserver(() => this.#following && this.#toEnd());
    this.sizes.observe(this.lines);
    this.sizes.observe(this.scroller);
  }

  #toggle(label, title, on, change) {
    const made = button("ll-button", label, title, () => {
      const pressed = made.getAttribute("aria-pressed") !== "true";
      made.setAttribute("aria-pressed", pressed);
      change(pressed);
    });
    made.setAttribute("aria-pressed", on);
    return made;
  }

  /** A toggle of a class on this element, remembered for the next log. */
  #viewToggle(label, title, name) {
    const on = recall(name) !== "off";
    this.classList.toggle(name, on);
    return this.#toggle(label, title, on, (pressed) => {
      this.classList.toggle(name, pressed);
      remember(name, pressed ? "on" : "off");
    });
  }

  // -- search and keys -----------------------------------------------------------------------------------------------

  #step(by) {
    const row = this.search.step(by);
    if (!row) return;
    this.#follow(false);
    row.scrollIntoView({ block: "center", container: "nearest" }); // the page itself stays where it is
  }

  #key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === this.searchInput) {
      if (event.key === "Enter") this.#step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") this.scroller.focus();
      else return;
    } else if (this.#keys[event.key] && !event.target.closest("input, textarea, select")) this.#keys[event.key]();
    else return;
    event.preventDefault();
  };
}

customElements.define("live-log", LiveLog);
