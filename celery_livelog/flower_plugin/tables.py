"""What the tab adds to the two tables of ``flower.urls``: routes before all others, and the navigation bar's module.

Loaded by every `celery` command where Flower is installed: handlers are named here and imported when a Flower starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flower import urls
from tornado.util import import_object
from tornado.web import RequestHandler, TemplateModule, url

from celery_livelog.flower_plugin.tab import with_tab

_VIEWS = "celery_livelog.flower_plugin.views"
_STATIC = Path(__file__).parents[1] / "web" / "static"


class LazyRoute(url):
    """A route that imports its handler when it is first asked for it, which is when a Flower starts.

    A plain ``(pattern, "dotted.name")`` would do, but Flower drops its name and arguments under ``--url_prefix``.
    """

    def __init__(self, pattern: str, view: str, kwargs: dict[str, Any] | None = None, name: str | None = None) -> None:
        super().__init__(pattern, RequestHandler, kwargs, name)
        self._view = view
        del self.target, self.handler_class  # so that reading them comes to __getattr__

    def __getattr__(self, name: str) -> Any:
        if name in ("target", "handler_class"):
            return import_object(f"{_VIEWS}.{self._view}")
        raise AttributeError(name)


def extend() -> None:
    """Add to both tables in place; the second time does nothing."""
    if any(isinstance(route, LazyRoute) for route in urls.handlers):
        return
    urls.handlers[0:0] = _routes()
    modules = urls.settings.setdefault("ui_modules", {})
    modules["Template"] = with_tab(modules.get("Template", TemplateModule))


def _routes() -> list[url]:
    return [
        LazyRoute(r"/livelog", "ListPage", name="livelog"),
        LazyRoute(r"/livelog/task/([^/]+)", "TaskPage", name="livelog_task"),
        LazyRoute(r"/livelog/ws", "Socket"),
        LazyRoute(r"/livelog/api/.+", "Api"),
        LazyRoute(r"/livelog/static/(.*)", "Static", {"path": str(_STATIC)}),
    ]
