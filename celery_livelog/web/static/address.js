/** Where to ask: addresses without the user and password that the page's own may hold, which `fetch` would not take. */

export function address(path) {
  const url = new URL(path, location.href);
  url.username = url.password = "";
  return url;
}

/** Ask for JSON. Give `{ ok, status, body }`; only a server that cannot be reached is an error. */
export async function ask(path) {
  const answer = await fetch(address(path), { cache: "no-store" });
  return { ok: answer.ok, status: answer.status, body: await answer.json().catch(() => ({})) };
}
