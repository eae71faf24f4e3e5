/** The log on the page: rows in blocks, the newest at the end, the oldest dropped when there are too many. */

import { element } from "./dom.js";
import { extend, row } from "./row.js";

// Blocks, not rows, are what the browser skips when they are out of sight, and what leaves at the top.
const BLOCK = 250;

export class Rows {
  #limit;
  #attempt = null;
  #open = null; // the { row, stream, length } of a line of which more pieces follow
  #progress = new Map(); // stage -> the row that shows how far it is
  #partials = new Map(); // attempt and stream -> the row of an unfinished line
  #block = null;
  #unfinished = element("div", "ll-unfinished");

  /** Rows that are shown now, and how many of them are lines that the task printed or logged. */
  count = 0;
  lines = 0;
  /** Whether something of the log is above what is shown: dropped here, or never asked for. */
  beheaded = false;

  /**
   * @param {Element} place where the rows go
   * @param {number} limit how many rows `trim` leaves at least
   */
  constructor(place, limit) {
    this.place = place;
    this.#limit = limit;
    place.append(this.#unfinished);
  }

  /** Show a batch; give the rows that it made. */
  add({ attempt, number, records }) {
    if (attempt !== this.#attempt) this.#begin(attempt, number, records[0]);
    return records.map((record) => this.#show(record)).filter(Boolean);
  }

  /** Drop the oldest rows when there is a block above the limit; tell whether there was. */
  trim() {
    const before = this.count;
    while (this.count > this.#limit + BLOCK) {
      const oldest = this.place.querySelector(".ll-block");
      this.count -= oldest.querySelectorAll(".ll-row").length;
      this.lines -= oldest.querySelectorAll(".ll-line").length;
      oldest.remove();
    }
    const dropped = this.count < before;
    this.beheaded ||= dropped;
    return dropped;
  }

  #begin(attempt, number, first) {
    if (this.#attempt === null && (number > 1 || (first.first ?? first.n) > 1)) this.beheaded = true;
    [this.#attempt, this.#open, this.#progress] = [attempt, null, new Map()];
    this.#append(element("div", "ll-attempt", `Attempt ${number}`));
    if (number > 1) this.place.classList.add("ll-many-attempts");
  }

  #show(record) {
    if (record.type === "partial") {
      this.#preview(record);
      return null;
    }
    this.#finish(record);
    if (this.#open && this.#open.stream === record.stream) {
      this.#extend(record);
      return null;
    }
    const made = row(record);
    this.#progressed(record, made);
    this.#append(made);
    this.count += 1;
    this.lines += record.type === "log_line" ? 1 : 0;
    if (record.more) this.#open = { row: made, stream: record.stream, length: record.line.length };
    return made;
  }

  #extend({ line, more }) {
    extend(this.#open.row, line, this.#open.length);
    this.#open.length += line.length;
    if (!more) this.#open = null;
  }

  /** Of what is said of how far a stage is, only the last is shown, and nothing once it is over. */
  #progressed({ type, stage }, made) {
    if (!type.startsWith("stage_")) return;
    const before = this.#progress.get(stage);
    this.#progress.delete(stage);
    if (type === "stage_progress") this.#progress.set(stage, made);
    if (before?.isConnected) {
      before.remove();
      this.count -= 1;
    }
  }

  #append(made) {
    if (!this.#block || this.#block.childElementCount >= BLOCK) {
      this.#block = element("div", "ll-block");
      this.#unfinished.before(this.#block);
    }
    this.#block.append(made);
  }

  #preview(record) {
    const key = `${this.#attempt} ${record.stream}`;
    this.#partials.get(key)?.remove();
    this.#partials.delete(key);
    if (!record.line) return;
    this.#partials.set(key, row(record));
    this.#unfinished.append(this.#partials.get(key));
  }

  /** Take away the unfinished lines that `record` makes whole, or ends. */
  #finish(record) {
    for (const [key, made] of this.#partials) {
      const [attempt, stream] = key.split(" ");
      if (attempt === this.#attempt && (record.type === "log_line_end" || stream === record.stream)) {
        made.remove();
        this.#partials.delete(key);
      }
    }
  }
}
