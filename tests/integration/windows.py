"""Every window to logs, in this process: its routes as its own tables have them, and a way to ask for one."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from celery import Celery
from click.testing import CliRunner
from django.apps import apps
from django.urls import get_resolver
from flower import urls
from flower.app import Flower
from flower.options import default_options
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import StaticFileHandler

from celery_livelog import asgi, cli, flower_plugin
from celery_livelog.access.tokens import Tokens
from celery_livelog.flower_plugin.tables import LazyRoute
from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings
from celery_livelog.web import pages, routes, site
from celery_livelog.web.api import Api
from celery_livelog.web.gate import Gate
from celery_livelog.web.gate_caps import Limits
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.gate_strangers import visitors
from celery_livelog.web.server import Server
from tests.integration import django_site
from tests.integration.web import get

#: Questions to a log, beside the plain one.
QUERIES = [
    "",
    "?format=ndjson",
    "?tail=5",
    "?grep=a",
    "?lines=1-2",
    "?follow=1&lines=1-2",
    "?wait=0.05",
    "?attempt=1",
]
#: The commands that give nothing of a log, and why.
NO_LOG = {
    "db": "the version of the tables",
    "exec": "writes a log, and shows what it runs",
    "relay": "a window of its own",
    "token": "what its caller has named",
    "verify": "whether the archive is damaged",
}
_COMMANDS = {
    "logs": [["logs", "{task}"], ["logs", "{task}", "--grep", "a"], ["logs", "{task}", "--json"]],
    "ls": [["ls"], ["ls", "--json"]],
    "recover": [["recover", "{task}"], ["recover"]],
    "runs": [["runs"], ["runs", "{run}"], ["runs", "{run}", "--json"], ["logs", "--run", "{run}"]],
}


@dataclass(frozen=True)
class Answered:
    """What a window answers."""

    status: int
    body: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Window:
    """A window: its routes, in which ``{task}`` and ``{run}`` stand for ids, and how to ask."""

    name: str
    routes: list[str]
    ask: Callable[[str], Answered]
    #: Where its WebSocket is.
    socket: str = ""


@contextmanager
def windows(conf: dict[str, Any]) -> Iterator[list[Window]]:
    """All of them, over stores that a Celery app with these settings has."""
    app = Celery("proj", set_as_current=False)
    app.conf.update(conf)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    ends = AsyncExitStack()
    mounted = asgi.app(app, viewer_of=lambda scope: Viewer(via="asgi", name="bob", seen=EVERYTHING))
    try:
        flower, relay = on_loop(_serve(app, ends))
        yield [
            Window("flower", _flower_routes(), lambda path: _fetched(flower + path), f"{flower}/livelog/ws"),
            Window("relay", _site_routes(), lambda path: _fetched(relay + path), f"{relay}/ws"),
            Window("asgi", _site_routes(), lambda path: on_loop(_asked_of_asgi(mounted, path))),
            _django(conf),
            Window("cli", _commands(), lambda line: _run(app, line)),
        ]
    finally:
        django_site.forget()
        on_loop(mounted.close())
        on_loop(ends.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(app: Celery, ends: AsyncExitStack) -> tuple[str, str]:
    """A Flower and a relay; what ends them is left in `ends`."""
    flower_plugin.install()
    application = Flower(capp=app, options=default_options, events=SimpleNamespace(), **urls.settings)
    (listening,) = bind_sockets(0, "127.0.0.1")
    flower = HTTPServer(application)
    flower.add_sockets([listening])

    async def end_flower() -> None:
        flower.stop()
        await flower.close_all_connections()
        if "livelog_reader" in application.settings:
            await application.settings["livelog_reader"].close()

    ends.push_async_callback(end_flower)
    settings = Settings.from_conf(app.conf)
    reader = Reader(settings)
    ends.push_async_callback(reader.close)
    gate = Gate(tokens=Tokens([]), strangers=visitors("relay", Origins(), ruled=True))
    relay = Server(site.Site(settings, reader, gate, Limits()), "")
    ends.push_async_callback(relay.close)
    port = relay.listen("127.0.0.1", 0, None)
    return f"http://127.0.0.1:{listening.getsockname()[1]}", f"http://127.0.0.1:{port}"


def _flower_routes() -> list[str]:
    found = [route for route in urls.handlers if isinstance(route, LazyRoute)]
    patterns = [route.regex.pattern for route in found if not issubclass(route.handler_class, StaticFileHandler | Api)]
    patterns += [f"/livelog/api{pattern.pattern}" for pattern, _ in routes._ROUTES]
    return [*_filled(patterns, socket="/livelog/ws$")]


def _site_routes() -> list[str]:
    patterns = [f"/api{pattern.pattern}" for pattern, _ in routes._ROUTES]
    patterns += [page.path.pattern for page in pages._PAGES]
    return [*_filled([*patterns, site._PROGRESS.pattern])]


def _filled(patterns: list[str], socket: str = "") -> Iterator[str]:
    """Regular expressions as routes, those of logs with all questions."""
    for pattern in patterns:
        if pattern == socket:
            continue
        route = re.sub(r"\([^)]*\)", "{run}" if "/run" in pattern else "{task}", pattern).rstrip("$").replace("\\", "")
        yield from (route + query for query in (QUERIES if route.endswith("{task}/log") else [""]))


def _django(conf: dict[str, Any]) -> Window:
    django_site.forget()
    apps.get_app_config("livelog").celery_app = SimpleNamespace(conf=conf)
    browser = django_site.client("boss")
    found = []
    for pattern in get_resolver("celery_livelog.contrib.django.urls").url_patterns:
        if pattern.name != "static":
            route = re.sub(r"<path:(task|run)_id>", r"{\1}", f"/livelog/{pattern.pattern}")
            found += [route + query for query in (QUERIES if route.endswith("{task}/log") else [""])]

    def ask(path: str) -> Answered:
        response = browser.get(path)
        body = response.getvalue() if response.streaming else response.content
        return Answered(response.status_code, body.decode(), dict(response.headers))

    return Window("django", [*found, "/page?id={run}"], ask)


def _commands() -> list[str]:
    """All commands but those of `NO_LOG`; of one that is not known here this fails."""
    return ["\t".join(line) for name in cli._COMMANDS if name not in NO_LOG for line in _COMMANDS[name]]


def _run(app: Celery, line: str) -> Answered:
    context = SimpleNamespace(app=app, no_color=True)
    result = CliRunner().invoke(cli.livelog, line.split("\t"), obj=context)
    return Answered(result.exit_code, result.output, {})


def _fetched(url: str) -> Answered:
    answer = get(url)
    return Answered(answer.status, answer.text, dict(answer.headers))


async def _asked_of_asgi(app: asgi.Logs, target: str) -> Answered:
    path, _, query = target.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    scope |= {"headers": [(b"host", b"localhost")], "scheme": "http", "client": ("127.0.0.1", 1)}
    sent: list[Any] = []
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, incoming.get, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answered(sent[0]["status"], body.decode(), {k.decode(): v.decode() for k, v in sent[0]["headers"]})
