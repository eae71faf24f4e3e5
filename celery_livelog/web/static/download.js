/** Links to files. A link brings no token along: where one is needed, the file is fetched with it, and then saved. */

import { address } from "./address.js";
import { authorization, tokenFor } from "./tokens.js";

/** Let a link lead to the file at `path`. */
export function download(link, path) {
  link.href = path;
  link.addEventListener("click", (event) => {
    const url = address(path);
    if (!tokenFor(url)) return;
    event.preventDefault();
    save(url);
  });
  return link;
}

async function save(url) {
  const answer = await fetch(url, { cache: "no-store", headers: authorization(url) });
  if (!answer.ok) return;
  const file = document.createElement("a");
  file.href = URL.createObjectURL(await answer.blob());
  file.download = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "task.log";
  file.click();
  setTimeout(() => URL.revokeObjectURL(file.href), 60_000); // when the browser has surely begun to save it
}
