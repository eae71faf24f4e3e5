"""The pages, the HTTP API and the WebSocket as handlers of a Flower, behind Flower's own access rules."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from flower.views import BaseHandler
from tornado import web

from celery_livelog.errors import SettingsError, complain, hide_in_messages
from celery_livelog.flower_plugin.access import CLOSED, is_open, viewer_of
from celery_livelog.flower_plugin.tab import shown
from celery_livelog.permissions import Viewer
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings
from celery_livelog.web import api
from celery_livelog.web.api import Refused
from celery_livelog.web.socket import ViewerSocket

_TEMPLATES = Path(__file__).parent / "templates"


class Gate(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """What every handler here does before it answers: the switch, Flower's access rules, headers that keep logs in."""

    viewer: Viewer | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name in ("Origin", "Headers", "Methods"):  # Flower without authentication opens itself to all origins
            self.clear_header(f"Access-Control-Allow-{name}")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> Awaitable[None] | None:
        if not shown(self):
            raise Refused(404, "not found")
        try:
            settings = _settings_of(self.application)
        except SettingsError as error:
            complain("live logs cannot be shown", error)
            raise Refused(503, str(error)) from None
        if not is_open(self.application.options, self.request.host_name, settings.flower_unauthenticated):
            raise Refused(403, CLOSED)
        self.check_user()
        self.viewer = viewer_of(self.current_user, self.request, self.application.options.basic_auth)
        return None

    def check_user(self) -> None:
        """Refuse who has not logged in; Flower itself answers 401 where it uses basic authentication.

        :raises Refused: for an OAuth user without a session, whom an API or a WebSocket cannot send to a login page.
        """
        if not self.current_user:
            raise Refused(403, "not logged in")


def _settings_of(application: Any) -> Settings:
    """The settings of a Flower's Celery app, read with the first request; then there is a loop for the reader, too."""
    settings: Settings | None = application.settings.get("livelog_settings")
    if settings is None:
        settings = Settings.from_conf(application.capp.conf)
        hide_in_messages(settings.redactor)
        reader = Reader(settings, application.capp)
        application.settings.update(livelog_reader=reader, livelog_settings=settings)
    return settings


class _Page(Gate):
    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", "script-src 'self'; object-src 'none'; base-uri 'none'")

    def check_user(self) -> None:
        """Leave it to ``web.authenticated``, which sends an OAuth user without a session to the login page."""

    def render_page(self, template: str, **values: Any) -> None:
        # Tornado's loader takes an absolute path, and `extends "base.html"` in it still finds Flower's.
        self.render(str(_TEMPLATES / template), root=self.reverse_url("livelog"), **values)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, Refused) and status_code != 404:
            self.set_status(status_code)
            self.render_page("refused.html", sentence=error.sentence)
        else:
            super().write_error(status_code, **kwargs)


class ListPage(_Page):
    """Running and recent tasks."""

    @web.authenticated
    def get(self) -> None:
        self.render_page("list.html")


class TaskPage(_Page):
    """One task's log."""

    @web.authenticated
    def get(self, task_id: str) -> None:
        self.render_page("task.html", task_id=task_id)


class Api(api.Api, Gate):
    """``/api``"""

    @property
    def path(self) -> str:
        root: str = self.reverse_url("livelog")
        return self.request.path.removeprefix(f"{root}/api")


class Socket(ViewerSocket, Gate):
    """``/ws``"""

    def check_user(self) -> None:
        """Refuse also who is known by a cookie alone, where nothing says which page has sent it along.

        :raises Refused: as for all, and then.
        """
        super().check_user()
        flower: Any = self.application
        if flower.options.auth and "Origin" not in self.request.headers:
            raise Refused(403, "a WebSocket without Origin; expected one that a page has opened")


class Static(web.StaticFileHandler):
    """Scripts and styles, open as Flower's own are."""

    def set_extra_headers(self, path: str) -> None:
        # Modules import each other by plain names: after an upgrade none may come from a cache unasked.
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
