/** The "Live logs" button on Flower's own page of a task. */

(function () {
  const root = document.currentScript.dataset.root;
  const id = document.getElementById("taskid")?.textContent.trim();
  const actions = document.querySelector("#task-page .detail-actions"); // Flower 2.1 and later
  const heading = document.querySelector("#task-page .page-header h2");
  if (!id || !(actions || heading)) return;
  const link = document.createElement("a");
  link.className = actions ? "btn btn-outline-primary" : "btn btn-outline-primary float-end me-2";
  link.href = `${root}/task/${encodeURIComponent(id)}`;
  link.textContent = "Live logs";
  if (actions) actions.prepend(link);
  else heading.append(link);
})();
