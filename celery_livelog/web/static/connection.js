/**
 * One task's records from a server that may come and go: by WebSocket, and by long-poll where that cannot be had.
 *
 * Every record is delivered once: what a new connection repeats is dropped here, and it asks only for what is missing.
 */

import { address } from "./address.js";
import { authorization, tokenFor } from "./tokens.js";

const SILENCE = 60_000; // ms without a word, heartbeats included, after which a connection counts as lost
const BACK_OFF = { first: 250, soon: 2000, longest: 30_000 }; // ms; `soon` while the server may just be restarting
const RESTARTING = 12; // failures in a row, some ten seconds, after which it is something else
const NOT_AGAIN = new Set([4400, 4401, 4403, 4404, 4413]); // closed for good: what was asked is not allowed, or no question
const FOR_NOW = new Set(["unavailable", "too_many", "timed_out"]); // errors that a new connection may not meet
const POLL_SECONDS = { first: 1, longest: 25 }; // that a request may be held; the first answer says that there is a server
const POLL_INSTEAD = 2; // every so many failures in a row the next try is a long-poll
const TRY_SOCKET_AGAIN = 60_000; // ms of polling after which the WebSocket has another chance
const POLL_PAUSE = 1000; // ms at least between two answers without news, from a server that cannot hold a request

export class Connection {
  #options;
  #seen = new Map(); // attempt -> the last record delivered, as { n, piece, place }; the latest one is the last
  #failures = 0;
  #answered = false; // whether a long-poll was
  #socket = null;
  #timer = 0;
  #silence = 0;
  #abort = new AbortController();
  #over = false;
  #resume = null; // while paused: lets a long-poll go on

  /**
   * @param {{root: string, taskId: string, tail: number, poll: boolean, onRecords: Function, onState: Function}} options
   *   `poll`: the server has no WebSocket; `onRecords({attempt, number, records})`; `onState(state, sentence)` with
   *   connecting, live, reconnecting, ended or refused.
   */
  constructor(options) {
    this.#options = options;
  }

  open() {
    this.#options.onState("connecting");
    this.#connect();
  }

  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#drop()?.close();
  }

  /** Tell the server that all up to record `n` of `attempt` has been dealt with; it sends no more than a page can take. */
  acknowledge(attempt, n) {
    this.#say({ type: "ack", attempt, n });
  }

  pause() {
    if (this.#resume) return;
    this.paused = new Promise((resolve) => (this.#resume = resolve));
    this.#say({ type: "pause" });
  }

  resume() {
    if (!this.#resume) return;
    this.#resume();
    this.#resume = null;
    this.#say({ type: "resume" });
  }

  #connect() {
    if (this.#options.poll) {
      this.#poll();
      return;
    }
    const url = address(`${this.#options.root}/ws`);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(url));
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (code === 1000) this.#end();
      else if (NOT_AGAIN.has(code)) this.#refuse(reason);
      else this.#lose();
    };
    this.#listen();
  }

  #hear(message) {
    this.#listen();
    if (message.type === "hello") {
      const from = this.#cursor ? { after: this.#cursor } : { tail: this.#options.tail };
      const token = tokenFor(address(this.#options.root)); // nothing is said of one that there is none of
      this.#say({ type: "subscribe", task_id: this.#options.taskId, ...from, ...(token && { token }) });
      if (this.#resume) this.#say({ type: "pause" });
      this.#options.onState("live");
      return;
    }
    if (message.type === "records") {
      this.#deliver(message);
    } else if (message.type === "error" && !FOR_NOW.has(message.code)) {
      this.#refuse(message.message);
    }
    if (message.type !== "error") this.#failures = 0; // a greeting alone is no success
  }

  #deliver({ attempt, number, records }) {
    const fresh = records.filter((record) => this.#fresh(attempt, record));
    if (fresh.length) this.#options.onRecords({ attempt, number, records: fresh });
  }

  #fresh(attempt, { type, n, piece = 0, more = false }) {
    if (type === "partial") return true;
    const last = this.#seen.get(attempt);
    if (last && (n < last.n || (n === last.n && piece <= last.piece))) return false;
    this.#seen.delete(attempt);
    this.#seen.set(attempt, { n, piece, place: more ? n - 1 : n }); // of a line in pieces all are asked for again
    return true;
  }

  /** Where to go on: the places in all attempts, for several may run at once; empty at first. */
  get #cursor() {
    return [...this.#seen].reverse().map(([attempt, { place }]) => `${attempt}:${place}`).join(",");
  }

  #say(message) {
    if (this.#socket && this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #end() {
    this.close();
    this.#options.onState("ended");
  }

  #refuse(sentence) {
    this.close();
    this.#options.onState("refused", sentence);
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lose(), SILENCE);
  }

  /** Forget the socket, which must not be heard any more; give it to whoever wants to close it. */
  #drop() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onmessage = socket.onclose = null;
    return socket;
  }

  #lose() {
    this.#drop()?.close();
    if (this.#over) return;
    this.#failures += 1;
    if (!this.#options.poll && this.#failures % POLL_INSTEAD === 0) {
      this.#poll();
      return;
    }
    this.#options.onState("reconnecting");
    const longest = this.#failures < RESTARTING ? BACK_OFF.soon : BACK_OFF.longest;
    const delay = Math.min(BACK_OFF.first * 2 ** this.#failures, longest) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#connect(), delay);
  }

  async #poll() {
    const until = this.#options.poll ? Infinity : performance.now() + TRY_SOCKET_AGAIN;
    try {
      while (!this.#over && performance.now() < until) {
        await this.paused;
        const asked = performance.now();
        const news = await this.#ask();
        if (!news && !this.#over) await this.#rest(asked + POLL_PAUSE - performance.now());
      }
    } catch {
      this.#lose();
      return;
    }
    if (this.#over) return;
    this.#failures = POLL_INSTEAD - 1; // one more failure leads back here
    this.#connect();
  }

  #rest(delay) {
    return new Promise((resolve) => (this.#timer = setTimeout(resolve, delay)));
  }

  /** Ask once; give whether there was something new. */
  async #ask() {
    const { root, taskId, tail } = this.#options;
    const from = this.#cursor ? `after=${this.#cursor}` : `tail=${tail}`;
    const wait = this.#answered ? POLL_SECONDS.longest : POLL_SECONDS.first;
    const path = `${root}/api/tasks/${encodeURIComponent(taskId)}/log?format=ndjson&wait=${wait}&${from}`;
    const url = address(path);
    const answer = await fetch(url, { signal: this.#abort.signal, cache: "no-store", headers: authorization(url) });
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) {
      this.#refuse((await answer.json().catch(() => ({}))).error ?? answer.statusText);
      return false;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    const lines = (await answer.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    this.#failures = 0;
    this.#answered = true;
    this.#options.onState("live");
    batches(lines).forEach((batch) => this.#deliver(batch));
    if (answer.headers.get("Livelog-Ended") === "1") this.#end();
    return lines.length > 0;
  }
}

/** The lines of an ndjson answer as the batches in which a WebSocket would bring them. */
function batches(lines) {
  const all = [];
  for (const { cursor, attempt: number, ...record } of lines) {
    const attempt = cursor.split(":")[0];
    if (all.at(-1)?.attempt !== attempt) all.push({ attempt, number, records: [] });
    all.at(-1).records.push(record);
  }
  return all;
}
