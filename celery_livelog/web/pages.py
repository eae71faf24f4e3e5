"""The pages of a site that brings none: the elements on a plain page. They hold nothing of any log themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import unquote

from celery_livelog.web.answers import Whole
from celery_livelog.web.refusal import Refusal
from celery_livelog.web.request import Request

_FRAME = Template((Path(__file__).parent / "page.html").read_text())
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page: `$id` stands for what its path names, `$root` for what all paths are below."""

    path: re.Pattern[str]
    title: str
    scripts: tuple[str, ...]
    content: str
    page_class: str = ""


_PAGES = (
    _Page(
        re.compile("/"),
        "Tasks",
        ("tasks.js",),
        '<h1 class="ll-name">Tasks</h1>\n<live-log-tasks root="$root"></live-log-tasks>',
    ),
    _Page(
        re.compile("/runs"),
        "Runs",
        ("runs.js",),
        '<h1 class="ll-name">Runs</h1>\n<live-log-runs root="$root"></live-log-runs>',
    ),
    _Page(
        re.compile("/task/([^/]+)"),
        "Log of $short",
        ("livelog.js", "task_head.js"),
        '<header class="ll-task-header">\n<live-log-head root="$root" task="$id"></live-log-head>\n'
        '<code class="ll-task-id">$id</code>\n</header>\n<live-log root="$root" task="$id"></live-log>',
        " ll-task-page",
    ),
    _Page(
        re.compile("/run/([^/]+)"),
        "Run $short",
        ("stages.js", "run_tasks.js"),
        '<live-log-stages root="$root" run="$id"></live-log-stages>\n'
        '<live-log-run-tasks root="$root" run="$id"></live-log-run-tasks>',
    ),
)


def answer(request: Request) -> Whole:
    """A page, the same for every id.

    :raises Refusal: when there is no such page.
    """
    for page in _PAGES:
        match = page.path.fullmatch(request.path)
        if match:
            found = unquote(match[1], errors="replace") if match.groups() else ""
            return Whole(
                "text/html; charset=utf-8", _html(page, request.root, found), {"Content-Security-Policy": _POLICY}
            )
    raise Refusal(404, "not found")


def _html(page: _Page, root: str, found: str) -> bytes:
    values = {"root": escape(root), "id": escape(found), "short": escape(found[:8])}
    html = _FRAME.substitute(
        root=values["root"],
        title=Template(page.title).substitute(values),
        page_class=page.page_class,
        content=Template(page.content).substitute(values),
        scripts="\n".join(
            f'<script type="module" src="{values["root"]}/static/{name}"></script>' for name in page.scripts
        ),
    )
    return html.encode(errors="replace")
