/** Making elements. Text only ever becomes a text node: nothing here parses markup. */

export function element(tag, className = "", ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

export function button(className, label, title, onClick) {
  const made = element("button", className, label);
  made.type = "button";
  made.title = title;
  made.addEventListener("click", onClick);
  return made;
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** The time of day in the reader's zone, to the millisecond. */
export function clock(timestamp) {
  const time = new Date(timestamp);
  const seconds = `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}`;
  return `${seconds}.${pad(time.getMilliseconds(), 3)}`;
}

/** A duration for people, from seconds. */
export function duration(seconds) {
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours} h ${pad(minutes)} min` : `${minutes} min ${pad(whole % 60)} s`;
}

export function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}
