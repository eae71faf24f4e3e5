"""A middleware that tells users how the stages of their runs go, as messages on the next page that they see.

A run is a user's own when it was begun with ``run(user_id=request.user.pk, …)``. What was told is noted in the session,
which Django leaves as it was when the page fails; then the messages go, too. So nothing is told twice or lost.
"""

from __future__ import annotations

import logging
import time
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.messages import add_message
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from celery_livelog.contrib.django import conf
from celery_livelog.contrib.django.access import owner_of
from celery_livelog.contrib.django.background import Background, background
from celery_livelog.contrib.django.flights import Flight, Flights
from celery_livelog.contrib.django.stage_news import StageNews, news
from celery_livelog.errors import LivelogError, complain
from celery_livelog.permissions import EVERYTHING, Viewer

logger = logging.getLogger("celery_livelog.contrib.django")

#: Where the session notes what was told: by run the time, in seconds, and the place of each stage.
_NOTES = "livelog_told"
#: Seconds after which the note of a run that is not heard of any more goes; far longer than it is told of.
_NOTED = 86_400
#: Messages that one page tells at most; the next one goes on from there.
_MOST = 50


class StageMessagesMiddleware(MiddlewareMixin):
    """Turns what is new of a user's runs into messages. It stands behind Django's for sessions, users and messages."""

    _flights: tuple[Background, Flights] | None = None

    def process_request(self, request: HttpRequest) -> None:
        """Tell what is new before the page is made, so that it shows it. Whatever goes wrong, the page is served."""
        try:
            if _is_page(request):
                self._tell(request)
        except LivelogError as error:
            complain("stage messages cannot be shown", error)
        except Exception:  # messages are no reason to break a page
            logger.exception("stage messages could not be shown")

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Take back what was told with a page that failed: Django keeps its messages, and its session as it was."""
        told = getattr(request, "_livelog_told", ())
        if told and response.status_code == 500:
            queued = request._messages._queued_messages
            queued[:] = [message for message in queued if all(message is not ours for ours in told)]
        return response

    def _tell(self, request: HttpRequest) -> None:
        user_id = request.session.get(SESSION_KEY)
        watched = None if user_id is None else self._watched()
        flights = () if watched is None else _flights_of(request, watched, user_id)
        if flights and request.user.is_authenticated:
            queued = request._messages._queued_messages
            before = len(queued)
            _tell_of(request, flights)
            request._livelog_told = queued[before:]

    def _watched(self) -> Flights | None:
        back = background()
        if back is None:
            return None
        if self._flights is None or self._flights[0] is not back:  # after a fork it is another
            self._flights = back, Flights(back)
        return self._flights[1]


def _is_page(request: HttpRequest) -> bool:
    """Whether a user who may be logged in asks for a page, and not a script of a page for something else."""
    headers = request.headers
    return (
        settings.SESSION_COOKIE_NAME in request.COOKIES
        and hasattr(request, "session")
        and hasattr(request, "_messages")
        and headers.get("Sec-Fetch-Dest", "document") == "document"
        and headers.get("X-Requested-With") != "XMLHttpRequest"
    )


def _flights_of(request: HttpRequest, watched: Flights, user_id: str) -> tuple[Flight, ...]:
    """The runs of a user who is logged in, if that is so."""
    owners = _owners(user_id)
    viewer = owner_of(request, owners) if watched.ruled else Viewer(via="django", seen=EVERYTHING)
    return () if viewer is None else watched.of(owners, viewer)


def _owners(user_id: str) -> tuple[str, ...]:
    """The user's id as runs have it: `run` takes what is no text as its representation."""
    return tuple(dict.fromkeys((user_id, repr(get_user_model()._meta.pk.to_python(user_id)))))


def _tell_of(request: HttpRequest, flights: tuple[Flight, ...]) -> None:
    """Tell what is new of runs, and note in the session what was told."""
    now = int(time.time())
    noted: dict[str, tuple[int, dict[str, int]]] = request.session.get(_NOTES, {})
    notes = {name: note for name, note in noted.items() if note[0] > now - _NOTED}
    room = _MOST
    for flight in flights:
        name = " ".join((flight.run.run_id, flight.run.account, flight.run.site))
        places = dict(noted.get(name, (now, {}))[1])
        for new in islice(news(flight.run, flight.stages, places), room):
            room -= 1
            _tell_one(request, new)
            places[new.key] = new.place
            notes[name] = now, places
        if name in noted:
            notes.setdefault(name, noted[name])  # however old: it is still told of
    if notes != noted:
        request.session[_NOTES] = notes


def _tell_one(request: HttpRequest, new: StageNews) -> None:
    """Queue a message about something new. What no message can be made of is told to the log, once."""
    try:
        message: Any = conf.message()(new)
        level, text = message or (0, "")
        level, text = int(level), str(text)
    except Exception:  # it is the site's code
        logger.exception(
            "no message could be made of %s of stage %r of run %s: %r", new.kind, new.stage.name, new.run.run_id, new
        )
        return
    if text:
        add_message(request, level, text)
