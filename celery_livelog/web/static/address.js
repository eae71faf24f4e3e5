/** Where to ask: addresses without the user and password that the page's own may hold, which `fetch` would not take. */

import { authorization } from "./tokens.js";

export function address(path) {
  const url = new URL(path, location.href);
  url.username = url.password = "";
  return url;
}

/** Ask for JSON. Give `{ ok, status, body }`; only a server that cannot be reached is an error. */
export async function ask(path) {
  const url = address(path);
  const answer = await fetch(url, { cache: "no-store", headers: authorization(url) });
  if (answer.status === 401) dispatchEvent(new CustomEvent("livelog-unauthorized", { detail: url }));
  return { ok: answer.ok, status: answer.status, body: await answer.json().catch(() => ({})) };
}
