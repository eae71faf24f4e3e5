"""Every route of every window, as its own tables have it, on a site whose rule says no to everything.

Nothing of any log is given by any, and what there is and what there is not are the same. A route that is added is asked
too, without a change here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from websockets.sync.client import connect

from celery_livelog.reader import door, run_tasks
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.settings import Settings
from celery_livelog.stores.catalog import Catalog
from tests.integration import django_site, django_urls, site_rule
from tests.integration.stored import AT, shipped
from tests.integration.windows import Answered, Window, windows
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

TASK, RUN = "task-that-is-there", "run-that-is-there"
ABSENT = {"task": "task-that-is-never", "run": "run-that-is-never"}
#: What must not come out: lines, names, whose it is.
SECRETS = ("line 1", "proj.secret", "secret run", "secret stage", "secret account", "SUCCESS")
NAMES = ("flower", "relay", "asgi", "django", "cli")


@pytest.fixture(scope="module")
def conf(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Of a site with a task of a run, both over."""
    directory = tmp_path_factory.mktemp("every_route")
    valkey_server.client.flushall()
    conf = {
        "livelog": True,
        "broker_url": valkey_server.url,
        "livelog_redis_url": valkey_server.url,
        "livelog_dir": str(directory / "livelog"),
        "livelog_flower_unauthenticated": True,
        "livelog_permission": site_rule.PATH,
    }
    django_site.configure(directory)
    with shipped(Settings.from_conf(conf)) as stores:
        attempt = stores.begin(1, TASK, name="proj.secret", account="secret account", run_id=RUN)
        stores.print(attempt, 1, 3)
        stores.end(attempt, 4)
        stores.settle()
        with closing(Catalog(Settings.from_conf(conf).database_url)) as catalog:
            run = RunEntry(run_id=RUN, account="secret account", started=AT, named=True, name="secret run")
            stage = Stage(attempt=attempt.attempt, stage=1, task_id=TASK, run_id=RUN, account="secret account")
            stage.started, stage.name = AT, "secret stage"
            catalog.write([], [run], [stage])
        yield conf


@pytest.fixture(scope="module")
def all_windows(conf: dict[str, Any]) -> Iterator[dict[str, Window]]:
    django_urls.template = "{% load livelog %}{% livelog_stages request.GET.id %}"
    with windows(conf) as found:
        assert [window.name for window in found] == [*NAMES]
        yield {window.name: window for window in found}


def check(window: Window) -> None:
    """That a window gives nothing.

    :raises AssertionError: that names the route.
    """
    there = {"task": TASK, "run": RUN}
    for route in window.routes:
        known, unknown = (window.ask(route.format(**ids)) for ids in (there, ABSENT))
        told = [secret for secret in SECRETS if secret in known.body]
        assert not told, f"{window.name} {route} tells {told}"
        assert _without_ids(known, there) == _without_ids(unknown, ABSENT), f"{window.name} {route}"
        if "{" not in route:
            assert TASK not in known.body, f"{window.name} {route}"
            assert RUN not in known.body, f"{window.name} {route}"


def _without_ids(answered: Answered, ids: dict[str, str]) -> Answered:
    """An answer without what differs anyhow: the id that was asked for, times, and what is drawn by lot."""
    body = answered.body
    for name, given in ids.items():
        body = body.replace(given, f"<{name}>")
    headers = {name: value for name, value in answered.headers.items() if name.lower() not in ("date", "etag")}
    return replace(answered, body=body, headers={**headers, "Set-Cookie": "" if "Set-Cookie" in headers else "none"})


@pytest.mark.parametrize("name", NAMES)
def test_no_route_gives_what_the_rule_hides(all_windows: dict[str, Window], name: str) -> None:
    """Not a line, not a name, and not even that there is something."""
    site_rule.says(False)
    check(all_windows[name])
    assert {action for action, _ in site_rule.asked} >= {"list", "archive", "runs"}
    assert len(all_windows[name].routes) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_the_same_routes_give_what_the_rule_allows(all_windows: dict[str, Window], name: str) -> None:
    """Else they would prove nothing: all that must not come out comes out."""
    site_rule.says(True)
    window = all_windows[name]
    told = "".join(window.ask(route.format(task=TASK, run=RUN)).body for route in window.routes)
    assert [secret for secret in SECRETS if secret not in told] == []
    assert {action for action, _ in site_rule.asked} >= {"list", "archive", "search", "runs"}


def test_a_route_without_the_door_is_found() -> None:
    """One that is added to a table and reads by itself fails the check, whatever it gives away."""
    nothing = Answered(404, "not found", {})
    for leak in (replace(nothing, body="line 1"), replace(nothing, status=403), replace(nothing, headers={"X": "1"})):
        answers = {f"/leak/{TASK}": leak, f"/leak/{ABSENT['task']}": nothing}
        with pytest.raises(AssertionError, match="a window /leak"):
            check(Window("a window", ["/leak/{task}"], answers.__getitem__))


@pytest.mark.parametrize("name", ["flower", "relay"])
def test_no_socket_gives_what_the_rule_hides(
    all_windows: dict[str, Window], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Who follows a task or a run waits, whether there is one or not, and is told nothing meanwhile."""
    monkeypatch.setattr(door, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(run_tasks, "_LOOK_SECONDS", 0.01)
    heard = []
    questions = [("live", {"task_id": given, "tail": 5}) for given in (TASK, ABSENT["task"])]
    questions += [("runs", {"run_id": given}) for given in (RUN, ABSENT["run"])]
    for action, question in questions:
        site_rule.says(False)
        asked = (action, next(iter(question.values())))
        with connect(all_windows[name].socket.replace("http", "ws", 1), proxy=None) as socket:
            heard.append([json.loads(socket.recv(timeout=20))["type"]])
            socket.send(json.dumps({"type": "subscribe", **question}))
            wait_for(lambda asked=asked: site_rule.asked.count(asked) > 5, what="some looks")
            with pytest.raises(TimeoutError):
                heard[-1].append(socket.recv(timeout=0))
    assert heard == [["hello"]] * 4


@pytest.mark.parametrize("said", [None, KeyError("no such project")], ids=repr)
def test_a_rule_that_gives_no_answer(all_windows: dict[str, Window], said: Any) -> None:
    """Is one that says no: the server goes on and gives nothing."""

    def may(*_: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    site_rule.says(may)
    check(all_windows["relay"])


def test_a_rule_may_ask_a_database(all_windows: dict[str, Window]) -> None:
    """Django's, from the thread that it runs in, about the user of the request."""
    from django.contrib.auth.models import User

    window = all_windows["django"]
    route = f"/livelog/api/tasks/{TASK}/log"
    for name, status in (("boss", 200), ("nobody there", 404)):
        site_rule.says(lambda viewer, *_, name=name: User.objects.filter(username=name, pk=viewer.user.pk).exists())
        assert window.ask(route).status == status
