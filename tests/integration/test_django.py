"""The Django app: what its routes and tags answer to whom, with what a real worker wrote."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import get_resolver

from celery_livelog import run
from celery_livelog.contrib.django import apps
from celery_livelog.contrib.django.flights import Flights
from celery_livelog.reader import Reader
from celery_livelog.reader.door import GuardedReader
from celery_livelog.reader.guarded_runs import GuardedRuns
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.stream_reader import StreamReader
from tests.integration import django_site, django_urls
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

ACCOUNTS = ("a1", "a2", "a3")


@dataclass(frozen=True)
class Sent:
    """A run with one task that has ended."""

    run_id: str
    task_id: str
    word: str


@pytest.fixture(scope="module", autouse=True)
def project(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a worker, served by the site."""
    directory = tmp_path_factory.mktemp("django")
    valkey_server.client.flushall()
    project = Project(directory / "project", valkey_server.url)
    worker = Worker(project)
    django_site.configure(directory)
    try:
        worker.start()
        django_site.serve(project)
        yield project
    finally:
        django_site.forget()
        worker.end()
        project.close()


@pytest.fixture(scope="module")
def sent(project: Project) -> dict[str, Sent]:
    """Accounts a1 and a2 have a run each, a3 has none; the runs of `own1` and `own2` are of account a1."""
    found = {name: send(project, name, account=name) for name in ("a1", "a2")}
    for name in ("own1", "own2"):
        found[name] = send(project, name, account="a1", user_id=django_site.user_id(name), project_id=7)
    return found


def send(project: Project, word: str, **scope: object) -> Sent:
    with run(site="s7", name=f"nightly {word}", **scope) as begun:  # type: ignore[arg-type]
        task_id = project.send("stage_by_stage", word).id
    logs.archived(project, task_id)
    stages = logs.ask(project, lambda reader: reader.runs.stages(begun.run_id))
    if len(stages) < 3:
        wait_for(lambda: len(logs.ask(project, lambda reader: reader.runs.stages(begun.run_id))) == 3, what="stages")
    return Sent(begun.run_id, task_id, word)


@contextmanager
def running(project: Project, valkey: Valkey, key: str) -> Iterator[Sent]:
    """A run of `own1` with a task that runs meanwhile."""
    with run(name=key, account="a1", user_id=django_site.user_id("own1")) as begun:
        task_id = project.send("stage_by_stage", key, key).id
    wait_for(lambda: len(logs.ask(project, lambda reader: reader.runs.stages(begun.run_id))) == 3, what="stages")
    try:
        yield Sent(begun.run_id, task_id, key)
    finally:
        valkey.client.rpush(key, "go")
        logs.archived(project, task_id)


def body(response: HttpResponse) -> str:
    return (response.getvalue() if response.streaming else response.content).decode()


def routes(task_id: str, run_id: str) -> list[str]:
    """Every route but the static files, with these ids."""
    found = []
    for pattern in get_resolver("celery_livelog.contrib.django.urls").url_patterns:
        if pattern.name != "static":
            found.append("/livelog/" + str(pattern.pattern))
    assert len(found) == 12
    return [route.replace("<path:task_id>", task_id).replace("<path:run_id>", run_id) for route in found]


# -- who may see what -------------------------------------------------------------------------------------------------


def test_every_route_goes_through_the_door() -> None:
    """No view but that of scripts and styles is served without the question who asks."""
    for pattern in get_resolver("celery_livelog.contrib.django.urls").url_patterns:
        assert pattern.name == "static" or pattern.callback.livelog_guarded


def test_every_question_goes_through_the_door() -> None:
    """The reader of a viewer inherits no question that does not know the viewer's bounds."""
    inherited = {name for name in dir(Reader) if not name.startswith("_")} - set(vars(GuardedReader))
    assert inherited == set()
    inherited = {name for name in dir(RunReader) if not name.startswith("_")} - set(vars(GuardedRuns))
    assert inherited == {"tail", "hearing"}  # by the attempts that it is given; that there may be something to ask for


def test_who_is_not_logged_in(sent: dict[str, Sent]) -> None:
    """Pages lead to the login, the API answers with an error; nothing is said of what there is."""
    for known in (sent["a1"], Sent("run_none", "none", "")):
        for route in routes(known.task_id, known.run_id):
            response = Client().get(route)
            if "/api/" in route:
                assert (response.status_code, json.loads(body(response))) == (403, {"error": "not logged in"})
            else:
                assert response.status_code == 302
                assert response["Location"].startswith("/accounts/login/?next=/livelog/")


@pytest.mark.parametrize("name", [*ACCOUNTS, "own1", "own2", "broken", "nobody", "boss"])
def test_who_sees_what(sent: dict[str, Sent], name: str) -> None:
    """On every route, a user gets all of what is theirs, and of the rest the answer for what does not exist."""
    browser = django_site.client(name)
    theirs = {
        "a1": {"a1", "own1", "own2"},
        "a2": {"a2"},
        "own1": {"own1"},
        "own2": {"own2"},
        "boss": set(sent),
    }.get(name, set())
    absent = [browser.get(route) for route in routes("T" * 36, "R" * 26)]
    for whose, known in sent.items():
        for route, nothing in zip(routes(known.task_id, known.run_id), absent, strict=True):
            response = browser.get(route)
            text = body(response)
            if whose in theirs:
                assert response.status_code == 200, (route, text)
            else:
                said = text.replace(known.task_id, "T" * 36).replace(known.run_id, "R" * 26)
                said = said.replace(known.task_id[:8], "T" * 8)
                assert (response.status_code, said) == (nothing.status_code, body(nothing)), route
                assert sorted(response.headers) == sorted(nothing.headers)
    for list_of, field in (("tasks", "task_id"), ("runs", "run_id")):
        entries = browser.get(f"/livelog/api/{list_of}").json()[list_of]
        assert {entry[field] for entry in entries} == {getattr(sent[whose], field) for whose in theirs}


@pytest.mark.parametrize("name", ["a3", "own2", "nobody"])
def test_another_s_and_nobody_s_take_the_same_questions(
    sent: dict[str, Sent], project: Project, valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is looked up does not depend on whether there is something that may not be seen, running or ended."""
    monkeypatch.setattr(Flights, "of", lambda *_: ())  # it asks for all users by itself, now and then …
    django_site.forget()  # … and has perhaps begun to
    asked: list[str] = []
    for store in (Archive, Catalog, StreamReader):
        for question, real in list(vars(store).items()):
            if callable(real) and not question.startswith("_"):

                def noted(self: object, *args: Any, _real: Any = real, _name: str = question, **more: Any) -> Any:
                    asked.append(_name)
                    return _real(self, *args, **more)

                monkeypatch.setattr(store, question, noted)
    browser = django_site.client(name)

    def questions(route: str) -> list[str]:
        asked.clear()
        body(browser.get(route))
        return list(asked)

    with running(project, valkey_server, f"held-{name}") as going:
        for other in (sent["own1"], going):
            for foreign, absent in zip(routes(other.task_id, other.run_id), routes("T" * 36, "R" * 26), strict=True):
                assert questions(foreign) == questions(absent), foreign


def test_a_scope_that_fails_holds_nothing(sent: dict[str, Sent], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a site's hook does wrong is in the log, with the reason."""
    assert django_site.client("broken").get("/livelog/api/runs").json() == {"runs": []}
    assert "no such account" in caplog.text
    assert {record.name for record in caplog.records} >= {"celery_livelog.contrib.django"}


def test_a_rule_that_cannot_be_imported(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is shown, however often somebody asks; `manage.py check` and the console say why, the pages do not."""
    browser, conf = django_site.client("boss"), project.conf
    project.conf = {**conf, "livelog_permission": "no_such_module.may"}
    try:
        django_site.serve(project)
        for _ in range(3):
            answer = browser.get("/livelog/api/tasks")
            assert (answer.status_code, "no_such_module" in body(answer)) == (503, False)
        assert [found.id for found in apps.check()] == ["livelog.E004"]
        assert "No module named 'no_such_module'" in apps.check()[0].msg
        assert all(thread.name != "livelog-reader" for thread in threading.enumerate())
    finally:
        project.conf = conf
        django_site.serve(project)


# -- what is answered -------------------------------------------------------------------------------------------------


def test_the_answers(sent: dict[str, Sent]) -> None:
    """The API tells a task, its log, a run, its stages and its tail, as Flower's does."""
    browser, known = django_site.client("a1"), sent["a1"]
    api = f"/livelog/api/tasks/{known.task_id}"
    assert browser.get(api).json()["state"] == "SUCCESS"
    text = body(browser.get(f"{api}/log?stream=stdout&tail=5"))
    assert text.splitlines()[:2] == ["a1 1", "a1 2"]
    assert "attachment" in browser.get(f"{api}/download")["Content-Disposition"]
    held = browser.get(f"{api}/log?format=ndjson&wait=5")
    assert held["Livelog-Ended"] == "1"
    assert body(held).count("\n") > 3
    assert browser.get(f"{api}/log?tail=x").json() == {"error": "tail is 'x'; expected a number of records"}
    told = browser.get(f"/livelog/api/runs/{known.run_id}").json()
    assert (told["run"]["state"], told["run"]["account"], told["run"]["tasks"]) == ("SUCCESS", "a1", 1)
    assert [stage["name"] for stage in told["stages"]] == ["Fetch", "<b>a1</b>", "Wait"]
    assert [task["task_id"] for task in told["tasks"]] == [known.task_id]
    assert len(body(browser.get(f"/livelog/api/runs/{known.run_id}/logs?lines=3")).splitlines()) == 3


def test_nothing_is_kept_by_caches(sent: dict[str, Sent]) -> None:
    """What a user may see is in no cache; scripts and styles are asked for again after an upgrade."""
    assert django_site.client("a1").get("/livelog/api/runs")["Cache-Control"] == "no-store, private"
    script = Client().get("/livelog/static/livelog.js")
    assert (script.status_code, script["Content-Type"]) == (200, "text/javascript")
    assert Client().get("/livelog/static/livelog.js", headers={"If-None-Match": script["ETag"]}).status_code == 304
    assert Client().get("/livelog/static/..%2Fapi.py").status_code == 404
    assert Client().post("/livelog/api/runs").status_code == 405


# -- on the pages of a site -------------------------------------------------------------------------------------------


def show(browser: Client, template: str, **values: str) -> str:
    """A page of the site that is made of this template."""
    django_urls.template = "{% load livelog %}" + template
    return body(browser.get("/page", values))


def test_a_log_on_a_page() -> None:
    """The tag escapes what it is given, names its scripts, and has the page's nonce if there is one."""
    browser = django_site.client("a1")
    page = show(browser, "{% livelog id %}", id='x"><script>alert(1)</script>')
    assert "<script>alert" not in page
    assert 'task="x&quot;&gt;&lt;script&gt;' in page
    assert 'src="/livelog/static/livelog.js"' in page
    assert "nonce" not in page
    assert page.count('nonce="n0"') == 0
    assert show(browser, "{% livelog id nonce='n0' %}", id="x").count('nonce="n0"') == 2
    assert show(browser, "{% livelog_stages id %}", id="x", csp_nonce="n1").count('nonce="n1"') == 2


def test_the_stages_of_a_run_on_a_page(sent: dict[str, Sent]) -> None:
    """The stages of a run that is named, of the newest, or of the newest of a project; only of those that are seen."""
    known = sent["own2"]
    browser = django_site.client("own2")
    for tag in (
        f"{{% livelog_stages '{known.run_id}' %}}",
        "{% livelog_stages %}",
        "{% livelog_stages project_id=7 %}",
    ):
        page = show(browser, tag)
        assert "nightly own2" in page
        assert "2 of 2" in page
        assert "&lt;b&gt;own2&lt;/b&gt;" in page
        assert f'href="/livelog/run/{known.run_id}/progress.jsonl"' in page
    for name, tag in (
        ("own2", f"{{% livelog_stages '{sent['own1'].run_id}' %}}"),
        ("own2", "{% livelog_stages 'absent' %}"),
        ("own2", "{% livelog_stages not_in_the_context %}"),
        ("own2", "{% livelog_stages project_id=8 %}"),
        ("own2", "{% livelog_stages account='a2' %}"),
        ("a3", "{% livelog_stages %}"),
        ("broken", "{% livelog_stages %}"),
    ):
        page = show(django_site.client(name), tag)
        assert "No run to show yet." in page
        assert "nightly" not in page


def test_the_progress_file(sent: dict[str, Sent]) -> None:
    """The link on a page gives the stages' events as JSON lines."""
    answer = django_site.client("own1").get(f"/livelog/run/{sent['own1'].run_id}/progress.jsonl")
    lines = [json.loads(line) for line in body(answer).splitlines()]
    assert [(line["stage"], line["status"]) for line in lines][-5:] == [
        ("Fetch", "complete"),
        ("<b>own1</b>", "running"),
        ("<b>own1</b>", "complete"),
        ("Wait", "running"),
        ("Wait", "complete"),
    ]
    assert all({"stage", "status", "message", "timestamp"} <= set(line) for line in lines)
    assert "attachment" in answer["Content-Disposition"]


# -- under asyncio ----------------------------------------------------------------------------------------------------


def test_the_same_under_asgi(sent: dict[str, Sent]) -> None:
    """Pages, answers that are held and logs that are streamed come as they do under WSGI."""
    known, cookies = sent["a1"], django_site.client("a1").cookies

    async def ask() -> None:
        browser = AsyncClient(raise_request_exception=False)
        browser.cookies = cookies
        api = f"/livelog/api/tasks/{known.task_id}"
        assert (await browser.get(api)).json()["state"] == "SUCCESS"
        held = await browser.get(f"{api}/log?format=ndjson&wait=5")
        assert held["Livelog-Ended"] == "1"
        followed = await browser.get(f"{api}/log?follow=1")
        assert followed.is_async
        text = b"".join([piece async for piece in followed]).decode()
        assert "a1 1\na1 2\n" in text
        events = await browser.get(f"{api}/log", headers={"accept": "text/event-stream"})
        assert events["Content-Type"].startswith("text/event-stream")
        assert b"event: end" in b"".join([piece async for piece in events])
        run = await browser.get(f"/livelog/api/runs/{known.run_id}/logs?follow=1&format=ndjson")
        lines = [json.loads(line) for piece in [piece async for piece in run] for line in piece.splitlines()]
        assert [line["line"] for line in lines if line["type"] == "log_line"][:2] == ["a1 1", "a1 2"]
        assert (await browser.get(f"/livelog/api/tasks/{sent['a2'].task_id}")).status_code == 404
        assert "live-log-runs" in (await browser.get("/livelog/runs")).content.decode()
        assert "2 of 2" in (await browser.get(f"/livelog/run/{known.run_id}")).content.decode()
        anonymous = await AsyncClient().get("/livelog/")
        assert anonymous.status_code == 302

    asyncio.run(ask())


# -- last, as it adds to what there is --------------------------------------------------------------------------------


def test_two_accounts_with_one_run_id(project: Project, sent: dict[str, Sent]) -> None:
    """Each sees its own run, as if the other did not exist, and who sees everything never sees a mixture."""
    both = [
        send(project, word, run_id="chosen", account=account) for word, account in (("ours", "a1"), ("theirs", "a2"))
    ]
    for known, name, other in ((both[0], "a1", "theirs"), (both[1], "a2", "ours")):
        browser = django_site.client(name)
        described = browser.get("/livelog/api/runs/chosen").json()
        assert [task["task_id"] for task in described["tasks"]] == [known.task_id]
        for route in routes(known.task_id, "chosen"):
            assert other not in body(browser.get(route)), route
    boss = django_site.client("boss")
    for route in ("/livelog/run/chosen", "/livelog/run/chosen/progress.jsonl", "/livelog/api/runs/chosen"):
        text = body(boss.get(route))
        assert ("ours" in text) != ("theirs" in text), route
