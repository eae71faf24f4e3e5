/** Tokens, each for the server that it is for. They are kept as long as the tab, and are never part of an address. */

const kept = new Map(); // where the browser keeps nothing for us

/** Keep the token for the server of `root`; none for an empty one. */
export function keepToken(root, token) {
  const { origin } = new URL(root, location.href);
  kept.set(origin, token);
  try {
    sessionStorage.setItem(name(origin), token);
  } catch {
    // It is kept until the page is left.
  }
}

/** The token for the server of an address, if there is one. */
export function tokenFor({ origin }) {
  try {
    return kept.get(origin) || sessionStorage.getItem(name(origin)) || "";
  } catch {
    return kept.get(origin) || "";
  }
}

/** The headers that bring it. */
export function authorization(url) {
  const token = tokenFor(url);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

const name = (origin) => `livelog-token ${origin}`;
