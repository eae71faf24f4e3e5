/** Search in the rows that are loaded: what is found is marked without touching the rows themselves. */

import { count } from "./dom.js";

const MOST = 5000; // marks at once
const PAUSE = 150; // ms after the last key before the search starts

export class Search {
  #root;
  #input;
  #counter;
  #ranges = [];
  #at = -1;
  #timer = 0;
  #marks = globalThis.Highlight ? { all: new Highlight(), current: new Highlight() } : null;

  /**
   * @param {Element} root what holds the rows
   * @param {HTMLInputElement} input
   * @param {Element} counter where "3 of 17" is shown
   */
  constructor(root, input, counter) {
    [this.#root, this.#input, this.#counter] = [root, input, counter];
    if (this.#marks) {
      CSS.highlights.set("ll-found", this.#marks.all);
      CSS.highlights.set("ll-current", this.#marks.current);
      this.#marks.current.priority = 1;
    }
    input.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#start(), PAUSE);
    });
  }

  get active() {
    return this.#wanted !== "";
  }

  /** Look through rows that have come since, too. */
  add(rows) {
    if (!this.active) return;
    for (const row of rows) this.#look(row);
    this.#tell();
  }

  /** Forget what was found in rows that are gone. */
  forget() {
    const gone = this.#ranges.findIndex((range) => range.startContainer.isConnected);
    const left = gone === -1 ? this.#ranges.length : gone;
    for (const range of this.#ranges.splice(0, left)) this.#marks?.all.delete(range);
    this.#at = Math.max(this.#at - left, -1);
    this.#tell();
  }

  /** Go `by` finds on, or back if below 0, around the ends; give the row there, or null. */
  step(by) {
    if (!this.#ranges.length) return null;
    const from = this.#at === -1 && by < 0 ? 0 : this.#at;
    this.#at = (from + by + this.#ranges.length) % this.#ranges.length;
    this.#marks?.current.clear();
    this.#marks?.current.add(this.#ranges[this.#at]);
    this.#tell();
    return this.#ranges[this.#at].startContainer.parentElement?.closest(".ll-row");
  }

  get #wanted() {
    return this.#input.value.toLowerCase();
  }

  #start() {
    this.#ranges = [];
    this.#at = -1;
    this.#marks?.all.clear();
    this.#marks?.current.clear();
    this.add(this.#root.querySelectorAll(".ll-block .ll-row"));
    this.#tell();
  }

  #look(row) {
    const wanted = this.#wanted;
    const place = row.querySelector(".ll-text");
    const text = place.textContent.toLowerCase();
    for (let from = text.indexOf(wanted); from !== -1; from = text.indexOf(wanted, from + wanted.length)) {
      if (this.#ranges.length >= MOST) return;
      const range = rangeOf(place, from, from + wanted.length);
      this.#ranges.push(range);
      this.#marks?.all.add(range);
    }
  }

  #tell() {
    const found = this.#ranges.length;
    const total = found >= MOST ? `${count(MOST)}+` : count(found);
    this.#counter.textContent = !this.active ? "" : this.#at < 0 ? `${total} found` : `${count(this.#at + 1)} of ${total}`;
    this.#input.classList.toggle("ll-nothing", this.active && found === 0);
  }
}

/** The range of `place` from one character of its text to another, over however many text nodes. */
function rangeOf(place, from, to) {
  const range = document.createRange();
  const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
  let passed = 0;
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const end = passed + node.length;
    if (from >= passed && from < end) range.setStart(node, from - passed);
    if (to <= end) {
      range.setEnd(node, Math.max(to - passed, 0));
      break;
    }
    passed = end;
  }
  return range;
}
