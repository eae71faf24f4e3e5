/** How the state of a task or an attempt looks: Flower's own badges, and what the table and the page head share. */

import { duration, element } from "./dom.js";

const CLASSES = {
  SUCCESS: "text-bg-success",
  FAILURE: "text-bg-danger",
  LOST: "text-bg-danger",
  ABORTED: "text-bg-danger",
  STARTED: "task-state-started",
  RETRY: "text-bg-warning",
};

export function stateBadge(state) {
  return element("span", `badge ${CLASSES[state] ?? "text-bg-secondary"}`, state);
}

/** The state of a run: RUNNING, SUCCESS or FAILURE. */
export function runState(state) {
  return element("span", `ll-state ll-state-${state.toLowerCase()}`, state);
}

/** How long an attempt took, or has been running. */
export function runtime({ started, ended }) {
  if (!started) return "";
  const end = ended ? new Date(ended) : new Date();
  return duration(Math.max(end - new Date(started), 0) / 1000);
}

/** When an attempt started, in the reader's zone and words; today without the date. */
export function startTime({ started }) {
  const time = new Date(started);
  const today = time.toDateString() === new Date().toDateString();
  const made = element("time", "", started ? (today ? time.toLocaleTimeString() : time.toLocaleString()) : "");
  made.dateTime = made.title = started;
  return made;
}
