/** A line with terminal escapes as text in spans: colours become classes, all else that a terminal would obey goes. */

import { element } from "./dom.js";

// CSI, OSC and the like with their terminators, other two-byte escapes, and an escape cut off by the line's end.
const ESCAPE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~]|$)/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g; // but not the tab, nor the newlines of a traceback
const STYLES = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 9: "strike" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 29: ["strike"] };

export function render(text) {
  if (!text.includes("\x1b")) return document.createTextNode(visible(text));
  const line = document.createDocumentFragment();
  let style = { flags: new Set(), colour: null };
  let end = 0;
  for (const match of text.matchAll(ESCAPE)) {
    append(line, text.slice(end, match.index), style);
    if (match[2] === "m") style = select(style, match[1]);
    end = match.index + match[0].length;
  }
  append(line, text.slice(end), style);
  return line;
}

/** Control characters written out, as livelog writes bytes that are no text. */
function visible(text) {
  return text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function append(line, text, { flags, colour }) {
  if (!text) return;
  const classes = [...flags].map((flag) => `ll-${flag}`);
  if (colour !== null) classes.push(`ll-colour-${colour}`);
  line.append(classes.length ? element("span", classes.join(" "), visible(text)) : visible(text));
}

/** SGR parameters applied to a style. Of the 256 colours the 16 with names are kept; backgrounds and the rest are not. */
function select(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let { flags, colour } = { flags: new Set(style.flags), colour: style.colour };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (code === 0) [flags, colour] = [new Set(), null];
    else if (STYLES[code]) flags.add(STYLES[code]);
    else if (ENDS[code]) ENDS[code].forEach((flag) => flags.delete(flag));
    else if (code >= 30 && code <= 37) colour = code - 30;
    else if (code >= 90 && code <= 97) colour = code - 90 + 8;
    else if (code === 39) colour = null;
    else if (code === 38 || code === 48) {
      if (code === 38) colour = codes[at + 1] === 5 && codes[at + 2] < 16 ? codes[at + 2] : null;
      at += codes[at + 1] === 5 ? 2 : 4;
    }
  }
  return { flags, colour };
}
