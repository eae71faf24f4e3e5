"""The ASGI app without a server: where it is served, and when it is not there at all."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celery_livelog import asgi
from celery_livelog.errors import SettingsError

KEY = {"livelog_secret_key": "a-key"}


def celery_app(directory: Path, **conf: Any) -> Any:
    """A Celery app as far as its configuration goes."""
    return SimpleNamespace(conf={"livelog": True, "livelog_dir": str(directory), **conf})


def spoken(app: asgi.Logs, scope: dict[str, Any], *heard: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    """What the app says on a connection over which it hears this."""
    said: list[MutableMapping[str, Any]] = []

    async def talk() -> None:
        waiting = [*heard]

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append(message)

        await asyncio.wait_for(app(scope, receive, send), 20)
        await app.close()

    asyncio.run(talk())
    return said


def asked(app: asgi.Logs, path: str, **scope: Any) -> int:
    """The status of the answer to a request."""
    given = {"type": "http", "path": path, "headers": [(b"host", b"site")], "query_string": b"", **scope}
    return int(spoken(app, given, {"type": "http.request"})[0]["status"])


def test_nothing_is_there_while_livelog_is_off(tmp_path: Path) -> None:
    """Neither a page nor a socket; nor has anything else to be right then."""
    app = asgi.app(celery_app(tmp_path, livelog=False))
    assert [asked(app, path) for path in ("/", "/healthz", "/api/tasks")] == [404] * 3
    scope = {"type": "websocket", "path": "/ws", "headers": []}
    assert spoken(app, scope, {"type": "websocket.connect"}) == [{"type": "websocket.close"}]


def test_who_may_see_what_must_be_told(tmp_path: Path) -> None:
    """An app that nobody could ever use is a mistake, and says what is missing."""
    with pytest.raises(SettingsError, match="give viewer_of, or set livelog_secret_key"):
        asgi.app(celery_app(tmp_path))
    asgi.app(celery_app(tmp_path, **KEY))
    asgi.app(celery_app(tmp_path), viewer_of=lambda scope: None)


@pytest.mark.parametrize(
    ("prefix", "scope", "path", "status"),
    [
        ("", {}, "/healthz", 200),
        ("", {"root_path": "/a"}, "/a/healthz", 200),
        ("", {"root_path": "/a"}, "/healthz", 404),
        ("", {"root_path": "/a"}, "/ab/healthz", 404),
        ("logs", {}, "/logs/healthz", 200),
        ("/logs/", {}, "/logs", 200),
        ("/logs/", {}, "/healthz", 404),
        ("logs", {"root_path": "/a"}, "/a/logs/healthz", 200),
        ("", {"raw_path": b"/healthz"}, "/other", 200),
        ("", {"raw_path": b"/task/a%2Fb"}, "/task/a/b", 200),
        ("", {}, "/task/a/b", 404),
    ],
)
def test_where_it_is(tmp_path: Path, prefix: str, scope: dict[str, Any], path: str, status: int) -> None:
    """Below what it is mounted at, and then below its prefix."""
    assert asked(asgi.app(celery_app(tmp_path, **KEY), prefix=prefix), path, **scope) == status


def test_another_loop(tmp_path: Path) -> None:
    """One app serves on each loop that it is asked on."""
    app = asgi.app(celery_app(tmp_path, **KEY))
    assert [asked(app, "/healthz"), asked(app, "/healthz")] == [200, 200]


def test_lifespan(tmp_path: Path) -> None:
    """It is not needed, and where there is one all is closed with it."""
    app = asgi.app(celery_app(tmp_path, **KEY))
    asked(app, "/healthz")
    said = spoken(app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
