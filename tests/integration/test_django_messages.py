"""Messages of stages: what a user is told while a run is under way, once, whatever fails."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from celery_livelog import run
from celery_livelog.contrib.django import flights
from celery_livelog.contrib.django.stage_news import StageNews, message_of
from celery_livelog.permissions import EVERYTHING, Viewer
from tests.integration import django_site, django_urls, site_rule
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

PAGE = "{% for message in messages %}[{{ message.level_tag }} {{ message }}]\n{% endfor %}"


@pytest.fixture(scope="module")
def project(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a worker, served by the site."""
    directory = tmp_path_factory.mktemp("messages")
    project = Project(directory / "project", valkey_server.url)
    worker = Worker(project, concurrency=4)
    django_site.configure(directory)
    try:
        worker.start()
        django_site.serve(project)
        yield project
    finally:
        django_site.forget()
        worker.end()
        project.close()


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Client:
    """A browser of `own1`, on a site that looks for news often."""
    monkeypatch.setattr(flights, "_SOON", 0.05)
    django_urls.template = PAGE
    return django_site.client("own1")


def start(project: Project, key: str, user: str = "own1") -> str:
    """Begin a run of a user that waits in its last stage until the test pushes to `key`."""
    with run(name=key, account="a1", user_id=django_site.user_id(user), project_id=7) as begun:
        project.send("stage_by_stage", key, key)
    return begun.run_id


def told(browser: Client, key: str, what: str, found: list[str]) -> list[str]:
    """All messages of a run up to one that says `what`, from as many pages as it takes."""

    def see() -> bool:
        found.extend(line for line in browser.get("/page").content.decode().splitlines() if f" {key}: " in line)
        return any(what in line for line in found)

    wait_for(see, what=f"a message of {what}")
    return found


def test_stages_are_told_while_they_run(project: Project, browser: Client, valkey_server: Valkey) -> None:
    """Each start and each end is a message, once, to whom the run belongs and to nobody else."""
    start(project, "told")
    other = django_site.client("own2")
    found = told(browser, "told", "Wait: started", [])
    valkey_server.client.rpush("told", "go")
    told(browser, "told", "Wait: complete", found)
    without_progress = [line for line in found if "told 1" not in line and "told 2" not in line]
    assert without_progress == [
        "[info told: Fetch: started]",
        "[success told: Fetch: complete, 2 processed]",
        "[info told: &lt;b&gt;told&lt;/b&gt;: started]",
        "[success told: &lt;b&gt;told&lt;/b&gt;: complete]",
        "[info told: Wait: started]",
        "[success told: Wait: complete]",
    ]
    assert "told" not in browser.get("/page").content.decode()
    assert "told" not in other.get("/page").content.decode()


def test_a_run_that_is_killed_half_way(project: Project, browser: Client) -> None:
    """Message, page, API and `progress.jsonl` say alike that the open stage was interrupted."""
    run_id = start(project, "killed")
    found = told(browser, "killed", "Wait: started", [])
    (task,) = browser.get(f"/livelog/api/runs/{run_id}").json()["tasks"]
    os.kill(task["pid"], signal.SIGKILL)
    told(browser, "killed", "[warning killed: Wait: interrupted", found)
    django_urls.template = "{% load livelog %}{% livelog_stages project_id=7 %}"
    page = browser.get("/page").content.decode()
    stages = browser.get(f"/livelog/api/runs/{run_id}").json()["stages"]
    answer = browser.get(f"/livelog/run/{run_id}/progress.jsonl")
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert "ll-state-failure" in page
    assert re.findall(r"ll-stage-item ll-stage-(\w+)", page) == [stage["state"] for stage in stages]
    assert [stage["state"] for stage in stages] == ["complete", "complete", "interrupted"]
    assert (lines[-1]["stage"], lines[-1]["status"]) == ("Wait", "interrupted")
    assert "SIGKILL" in lines[-1]["message"]


def test_a_page_that_fails_loses_nothing(project: Project, browser: Client, valkey_server: Valkey) -> None:
    """What was to be told with it is told with the next page, once."""
    start(project, "failing")
    valkey_server.client.rpush("failing", "go")
    wait_for(lambda: "failing: Wait: complete" in str(peek()), what="the news")
    for _ in range(3):
        assert browser.get("/page?fail").status_code == 500
    found = told(browser, "failing", "Wait: complete", [])
    assert len(found) == len(set(found)) >= 6
    assert "failing" not in browser.get("/page").content.decode()


def test_what_is_no_page_is_told_nothing(project: Project, browser: Client, valkey_server: Valkey) -> None:
    """Scripts of a page take no messages away from the next page."""
    start(project, "scripts")
    valkey_server.client.rpush("scripts", "go")
    wait_for(lambda: "scripts: Wait: complete" in str(peek()), what="the news")
    assert "scripts" not in browser.get("/page", headers={"Sec-Fetch-Dest": "empty"}).content.decode()
    assert len(told(browser, "scripts", "Wait: complete", [])) >= 6


def no_b(new: StageNews) -> tuple[int, str] | None:
    """A site's own way to make messages; it does not know markup."""
    if "<b>" in new.stage.name:
        raise ValueError("markup")
    return message_of(new)


def test_what_no_message_can_be_made_of_is_logged_once(
    project: Project, browser: Client, valkey_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback, and all others are told."""
    settings.LIVELOG_STAGE_MESSAGE = f"{__name__}.no_b"
    try:
        start(project, "broken")
        valkey_server.client.rpush("broken", "go")
        found = told(browser, "broken", "Wait: complete", [])
        browser.get("/page")
    finally:
        del settings.LIVELOG_STAGE_MESSAGE
    assert not any("b&gt;" in line for line in found)
    logged = [record for record in caplog.records if "run" in record.getMessage() and "broken" in record.getMessage()]
    assert [(record.name, record.levelno) for record in logged] == [
        ("celery_livelog.contrib.django", logging.ERROR)
    ] * 2
    assert all(record.exc_info is not None and "markup" in str(record.exc_info[1]) for record in logged)


def test_pages_are_served_while_the_stores_are_away(
    project: Project, browser: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither Redis nor a catalog answers: a page has no messages, and that is all."""
    conf = project.conf
    away = {"livelog_redis_url": "redis://127.0.0.1:1/0", "livelog_database_url": f"sqlite:///{tmp_path}/no/such/file"}
    project.conf = {**conf, **away}
    try:
        django_site.serve(project)
        for _ in range(5):
            assert browser.get("/page").status_code == 200
    finally:
        project.conf = conf
        django_site.serve(project)


def test_the_site_s_rule_is_asked(project: Project, browser: Client, valkey_server: Valkey) -> None:
    """What it hides is told to nobody, not even to whom the run belongs; of the rest it knows who asks."""
    site_rule.says(lambda viewer, action, run: run.name == "shown" and viewer.name == "own1" and action == "runs")
    conf = project.conf
    project.conf = {**conf, "livelog_permission": site_rule.PATH}
    try:
        django_site.serve(project)
        hidden = start(project, "hidden")
        start(project, "shown")
        told(browser, "shown", "Wait: started", [])
        wait_for(lambda: ("runs", hidden) in site_rule.asked, what="the question about the hidden run")
        assert "hidden" not in browser.get("/page").content.decode()
    finally:
        project.conf = conf
        django_site.serve(project)
        for key in ("hidden", "shown"):
            valkey_server.client.rpush(key, "go")


def peek() -> list[str]:
    """What the process knows to tell to `own1`, whether it was told or not."""
    from celery_livelog.contrib.django.background import background
    from celery_livelog.contrib.django.stage_news import news

    back = background()
    assert back is not None
    watched = flights.Flights(back)
    watched._here[str(django_site.user_id("own1"))] = 0.0, Viewer(via="test", seen=EVERYTHING)
    known = back.wait(watched._look())
    return [
        str(message_of(new))
        for of_owner in known.values()
        for flight in of_owner
        for new in news(flight.run, flight.stages, {})
    ]
