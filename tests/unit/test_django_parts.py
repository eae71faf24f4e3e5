"""Parts of the Django app that need no site: what is new of stages, and which requests are held."""

from __future__ import annotations

import json
import os

import pytest
from django.conf import settings
from django.contrib.messages import constants
from django.contrib.messages.storage.session import SessionStorage
from django.core.handlers.asgi import ASGIRequest
from django.test import RequestFactory
from msgspec.structs import replace

from celery_livelog.contrib.django import background, held
from celery_livelog.contrib.django.stage_news import StageNews, message_of, news
from celery_livelog.runs import RunView, Stage
from celery_livelog.settings import Settings
from celery_livelog.web.answers import Refusal
from celery_livelog.web.log_query import LogQuery

RUN = RunView(run_id="run_1", name="nightly", started="2026-01-01")


@pytest.fixture(autouse=True)
def site() -> None:
    """Django, set up."""
    from tests.integration import django_site

    assert django_site


def stage(state: str = "running", **known: object) -> Stage:
    return Stage(attempt="a", stage=1, task_id="t", name="Compile", state=state, **known)  # type: ignore[arg-type]


def tell(stages: list[Stage], told: dict[str, int]) -> list[str]:
    """What is new, and that it was told."""
    kinds = []
    for new in news(RUN, stages, told):
        kinds.append(new.kind)
        told[new.key] = new.place
    return kinds


def test_each_start_and_end_is_told_once() -> None:
    """And progress when there is a newer one with a message."""
    told: dict[str, int] = {}
    assert tell([stage(n=1)], told) == ["start"]
    assert tell([stage(n=1)], told) == []
    assert tell([stage(n=2, done=1)], told) == []
    assert tell([stage(n=3, done=2, message="half")], told) == ["progress"]
    assert tell([stage(n=3, done=2, message="half")], told) == []
    assert tell([stage("complete", n=4)], told) == ["complete"]
    assert tell([stage("complete", n=4)], told) == []


def test_what_was_never_seen_running_is_told_whole() -> None:
    """A stage that is over when it is first seen has a start and an end."""
    for state in ("complete", "error", "interrupted"):
        assert tell([stage(state, n=9)], {}) == ["start", state]


def test_what_messages_say() -> None:
    """Levels are Django's; counts and reasons are in the text."""

    def said(kind: str, **known: object) -> tuple[int, str] | None:
        return message_of(StageNews(kind, RUN, stage(**known), "a.1", 0))

    assert said("start") == (constants.INFO, "nightly: Compile: started")
    assert said("progress", done=1, total=2, message="half") == (constants.INFO, "nightly: Compile: 1 of 2 half")
    assert said("complete", done=3) == (constants.SUCCESS, "nightly: Compile: complete, 3 processed")
    assert said("error", error="OSError: full") == (constants.ERROR, "nightly: Compile: error: OSError: full")
    assert said("interrupted") == (constants.WARNING, "nightly: Compile: interrupted")


def test_a_page_tells_no_more_than_a_person_reads() -> None:
    """The next page goes on where the last one stopped, even between the start and the end of one stage."""
    from celery_livelog.contrib.django.flights import Flight
    from celery_livelog.contrib.django.stage_messages import _tell_of

    request = RequestFactory().get("/")
    request.session = {}
    stages = [replace(stage("complete", n=9), stage=number) for number in range(1, 43)]
    told = []
    for _ in range(3):
        request._messages = SessionStorage(request)
        _tell_of(request, (Flight(RUN, tuple(stages)),))
        told.append(len(request._messages._queued_messages))
        request.session = json.loads(json.dumps(request.session))
    assert told == [50, 34, 0]


def test_a_server_without_threads_holds_nothing() -> None:
    """Else one viewer would hold up the whole site."""
    request = RequestFactory().get("/")
    request.META["wsgi.multithread"] = False
    _, query = held.afford(request, LogQuery(wait=25))
    assert 0 < query.wait < 1
    with pytest.raises(Refusal, match="wait="):
        held.afford(request, LogQuery(follow=True))


def test_few_requests_are_held_at_once() -> None:
    """A place is free again when it is released, once."""
    request = RequestFactory().get("/")
    request.META["wsgi.multithread"] = True
    settings.LIVELOG_HELD_REQUESTS = 1
    try:
        place, query = held.afford(request, LogQuery(wait=25))
        assert query.wait == 25
        assert held.afford(request, LogQuery(wait=25))[1].wait < 1
        place.release()
        place.release()
        second, query = held.afford(request, LogQuery(wait=25))
        assert query.wait == 25
        assert held.afford(request, LogQuery(wait=25))[1].wait < 1
        second.release()
    finally:
        del settings.LIVELOG_HELD_REQUESTS


def test_asyncio_holds_all() -> None:
    """There a request that waits costs no thread."""
    request = ASGIRequest({"type": "http", "method": "GET", "path": "/", "headers": []}, None)
    assert held.afford(request, LogQuery(wait=25))[1].wait == 25


def test_a_fork_has_a_reader_of_its_own(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that loads the app and asks something before it forks its workers leaves them nothing that hangs."""
    read = Settings.from_conf({"livelog_dir": str(tmp_path)}, {})
    monkeypatch.setattr(background.conf, "livelog_settings", lambda app: read)
    monkeypatch.setattr(background.conf, "celery_app", lambda: None)
    parent = background.background()
    assert parent is not None
    assert parent is background.background()
    assert parent.wait(parent.reader.recent(), 30) == []
    child = os.fork()
    if not child:
        try:
            own = background.background()
            os._exit(0 if own is not None and own is not parent and own.wait(own.reader.recent(), 30) == [] else 1)
        except BaseException:  # noqa: BLE001 - a child that goes on would run the tests once more
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parent.close()
    background._forget()
