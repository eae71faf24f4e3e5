/** What a reader chose, kept in the browser; where it keeps nothing, the choice lasts as long as the page. */

const key = (name) => `livelog-${name}`;

export function recall(name) {
  try {
    return localStorage.getItem(key(name));
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(key(name), value);
  } catch {
    // A private window or a policy: nothing to be done.
  }
}
