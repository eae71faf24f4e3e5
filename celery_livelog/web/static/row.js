/** One record as one row of the log. */

import { render } from "./ansi.js";
import { clock, count, duration, element } from "./dom.js";

const LONGEST = 10_000; // characters of a line that are shown; the rest is in the download

const SEVERITY = { DEBUG: "quiet", INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "error" };
const REASONS = {
  overload: "The task printed faster than it could be kept.",
  redis: "Redis could not take them in time; the download has what was archived.",
  trim: "They left the live stream before they were read; the download has what was archived.",
  lost: "They are damaged or gone.",
};

export function row(record) {
  const [kind, content] = (KINDS[record.type] ?? unknown)(record);
  const made = element("div", `ll-row ll-${kind}`);
  const time = element("time", "ll-time", clock(record.timestamp));
  time.dateTime = time.title = record.timestamp;
  made.append(time, element("span", "ll-text", ...content));
  return made;
}

/** Add the next piece of an overlong line to the row that has its first `length` characters. */
export function extend(made, piece, length) {
  made.querySelector(".ll-note")?.remove();
  made.querySelector(".ll-text").append(...shortened(piece, length));
}

const KINDS = {
  log_line: (record) => [streamOf(record), [...origin(record), ...shortened(record.line), ...fieldsOf(record)]],
  partial: (record) => [`partial ll-${record.stream}`, [render(record.line.slice(-LONGEST))]],
  stage_start: ({ stage, name, pending }) => [
    "stage ll-stage-start",
    [label(stage), element("strong", "", name), pending == null ? "" : ` · ${count(pending)} to do`],
  ],
  stage_progress: ({ stage, name, done, total, message }) => [
    "stage",
    [label(stage), name, " ", bar(done, total), ` ${count(done)}${total == null ? "" : ` of ${count(total)}`}`,
      message ? ` · ${message}` : ""],
  ],
  stage_complete: ({ stage, name, elapsed, processed }) => [
    "stage ll-stage-complete",
    [label(stage), element("strong", "", name), ` complete in ${duration(elapsed)}`,
      processed ? ` · ${count(processed)} processed` : ""],
  ],
  stage_error: ({ stage, name, elapsed, error, traceback }) => [
    "stage ll-stage-error",
    [label(stage), element("strong", "", name), ` failed after ${duration(elapsed)}: ${error}`, ...details(traceback)],
  ],
  run_start: ({ run_id: id, name }) => [
    "stage ll-stage-start",
    [element("span", "ll-stage-number", "Run "), element("strong", "", name || id), name ? ` · ${id}` : ""],
  ],
  run_end: ({ run_id: id, state, elapsed, error }) => [
    state === "SUCCESS" ? "stage ll-stage-complete" : "stage ll-stage-error",
    [element("span", "ll-stage-number", "Run "), element("strong", "", id),
      ` ${state === "SUCCESS" ? "complete in" : "failed after"} ${duration(elapsed)}`, error ? `: ${error}` : ""],
  ],
  trace: ({ event, data }) => [
    "internal",
    [element("strong", "", event), data == null ? "" : ` ${JSON.stringify(data)}`],
  ],
  gap: ({ skipped, reason, note: why }) => [
    "gap",
    [`[${skipped} ${skipped === 1 ? "message" : "messages"} skipped]`, note(why ?? REASONS[reason] ?? "")],
  ],
  log_line_end: ({ state, exit_code: code, reason }) => [
    `end ll-end-${state.toLowerCase()}`,
    [element("strong", "", state), ` · exit code ${code}`, reason ? ` · ${reason}` : ""],
  ],
};

function unknown(record) {
  return ["internal", [`${record.type} ${JSON.stringify(record)}`]];
}

function streamOf({ stream, level }) {
  return `line ll-${level ? SEVERITY[level.toUpperCase()] ?? "info" : stream}`;
}

function origin({ level, logger }) {
  return [
    ...(level ? [element("span", "ll-level", level), " "] : []),
    ...(logger ? [element("span", "ll-logger", logger), " "] : []),
  ];
}

function fieldsOf({ fields, more }) {
  if (more) return []; // more of its text follows
  return Object.entries(fields ?? {}).flatMap(([key, value]) => [
    " ",
    element("span", "ll-field", element("span", "ll-key", `${key}=`), ...shortened(shown(value))),
  ]);
}

const shown = (value) => (typeof value === "string" && /^[^\s"'=]+$/.test(value) ? value : JSON.stringify(value));

function shortened(text, before = 0) {
  const left = before + text.length - LONGEST;
  if (left <= 0) return [render(text)];
  return [render(text.slice(0, Math.max(LONGEST - before, 0))), note(`${count(left)} more characters in the download`)];
}

const label = (stage) => element("span", "ll-stage-number", `Stage ${stage} `);
const note = (text) => element("span", "ll-note", text ? ` ${text}` : "");

function bar(done, total) {
  if (!total) return "";
  const made = element("progress", "ll-bar");
  [made.max, made.value] = [total, done];
  return made;
}

function details(traceback) {
  return traceback ? [element("details", "", element("summary", "", "Traceback"), element("pre", "", traceback))] : [];
}
