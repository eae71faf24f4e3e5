/** The log on the page: rows in blocks, the newest at the end, the oldest dropped when there are too many. */

import { element } from "./dom.js";
import { extend, row } from "./row.js";

// Blocks, not rows, are what the browser skips when they are out of sight, and what leaves at the top.
const BLOCK = 250;

export class Rows {
  #limit;
  #attempt = null;
  #open = null; // the { row, length } of a line of which more pieces follow
  #progress = null; // the { row, stage } that shows how far a stage is, as long as nothing else follows it
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
    [this.#attempt, this.#open, this.#progress] = [attempt, null, null];
    this.#append(element("div", "ll-attempt", `Attempt ${number}`));
    if (number > 1) this.place.classList.add("ll-many-attempts");
  }

  #show(record) {
    if (record.type === "partial") {
      this.#preview(record);
      return null;
    }
    this.#finish(record);
    if (this.#open && record.type === "log_line") {
      extend(this.#open.row, record.line, this.#open.length);
      this.#open = record.more ? { row: this.#open.row, length: this.#open.length + record.line.length } : null;
      return null;
    }
    const made = row(record);
    const { type, stage } = record;
    if (type === "stage_progress" && this.#progress?.stage === stage) this.#progress.row.replaceWith(made);
    else {
      this.#append(made);
      this.count += 1;
      this.lines += type === "log_line" ? 1 : 0;
    }
    this.#progress = type === "stage_progress" ? { row: made, stage } : null;
    this.#open = record.more ? { row: made, length: record.line.length } : null;
    return made;
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
    const made = row(record);
    const before = this.#partials.get(key);
    if (before) before.replaceWith(made);
    else this.#unfinished.append(made);
    this.#partials.set(key, made);
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
