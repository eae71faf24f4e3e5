"""The tab, the pages, the HTTP API and the WebSocket in a real Flower."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from tornado.web import create_signed_value
from websockets.exceptions import InvalidStatus

from celery_livelog.flower_plugin.access import CLOSED
from tests.integration.web import AUTHORIZED, LOGIN, Answer, get, records, serving, subscribe, viewer
from tests.nodes.flower import Flower
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

ROUTES = ["/livelog", "/livelog/task/some-id", "/livelog/api/tasks", "/livelog/api/tasks/some-id"]
ROUTES += ["/livelog/api/tasks/some-id/log", "/livelog/api/tasks/some-id/download"]
ROUTES += ["/livelog/api/runs", "/livelog/api/runs/some-id", "/livelog/api/runs/some-id/logs"]
SECRET = "of-the-cookies"


@pytest.fixture(scope="module")
def site(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str]]:
    """A project with a worker and a Flower on loopback, for all tests that only read."""
    with serving(valkey_server, tmp_path_factory.mktemp("site")) as (project, flower):
        yield project, flower.url


def ended(url: str, task_id: str) -> None:
    """Wait until the server knows that the task has ended: its outcome is there before its log's end."""

    def state() -> bool:
        answer = get(f"{url}/livelog/api/tasks/{task_id}")
        return answer.status == 200 and bool(answer.json["attempts"][-1]["ended"])

    wait_for(state, what=f"the end of {task_id}")


def lines(answer: Answer) -> list[str]:
    return [record["line"] for record in answer.records if record["type"] == "log_line"]


# -- what Flower shows ------------------------------------------------------------------------------------------------


def test_the_tab_is_on_all_of_flowers_pages(site: tuple[Project, str]) -> None:
    """It stands between Tasks and Broker, and is the current one on our own pages."""
    _, url = site
    for page in ("/workers", "/tasks", "/livelog"):
        html = get(url + page).text
        assert html.index('href="/tasks"') < html.index('href="/livelog"') < html.index('href="/broker"')
        assert html.count("nav-link active") == html.count('aria-current="page"') <= 1
        assert ("nav-link active" in html[: html.index('href="/livelog"')][-80:]) == (page == "/livelog")


def test_the_pages_and_what_they_load(site: tuple[Project, str]) -> None:
    """Pages name the task as text, run only our scripts, and are stored nowhere."""
    _, url = site
    page = get(f"{url}/livelog/task/%3Cimg%20src=x%3E")
    assert page.status == 200
    assert "&lt;img src=x&gt;" in page.text
    assert "<img src=x>" not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    for name in ("livelog.js", "livelog.css", "tasks.js", "flower_button.js"):
        file = get(f"{url}/livelog/static/{name}")
        assert (file.status, file.headers["Cache-Control"]) == (200, "no-cache")
    assert get(f"{url}/livelog/static/../api.py").status != 200
    assert get(f"{url}/nothing-here").status == 404


def test_the_task_page_of_flower_leads_to_the_log(site: tuple[Project, str]) -> None:
    """Flower's own page of a task has the script that makes the button; its other pages have not."""
    project, url = site
    task_id = project.run("print_lines").id
    wait_for(lambda: get(f"{url}/task/{task_id}").status == 200, what="Flower to know the task")
    assert 'src="/livelog/static/flower_button.js"' in get(f"{url}/task/{task_id}").text
    assert "flower_button.js" not in get(f"{url}/tasks").text


# -- the HTTP API -----------------------------------------------------------------------------------------------------


def test_tasks_and_attempts(site: tuple[Project, str]) -> None:
    """A list has each task once, by its latest attempt; a task has all of them."""
    project, url = site
    task_id = project.run("retry_once").id
    ended(url, task_id)
    wait_for(lambda: get(f"{url}/livelog/api/tasks/{task_id}").json["state"] == "SUCCESS")
    task = get(f"{url}/livelog/api/tasks/{task_id}").json
    assert [attempt["state"] for attempt in task["attempts"]] == ["RETRY", "SUCCESS"]
    assert task["attempts"][0]["name"] == "proj.retry_once"
    newest = get(f"{url}/livelog/api/tasks?limit=5").json["tasks"]
    assert [known["state"] for known in newest if known["task_id"] == task_id] == ["SUCCESS"]
    assert len(get(f"{url}/livelog/api/tasks?limit=1").json["tasks"]) == 1


def test_a_log_as_text_and_as_json_lines(site: tuple[Project, str]) -> None:
    """The text is what the task printed; JSON lines say what each record is and where it stands."""
    project, url = site
    task_id = project.run("write_stderr").id
    ended(url, task_id)
    log = f"{url}/livelog/api/tasks/{task_id}/log"
    assert get(log).text == "to stdout\nto stderr\n"
    answer = get(f"{log}?format=ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [record["type"] for record in answer.records] == ["log_line", "log_line", "log_line_end"]
    first = answer.records[0]
    assert (first["n"], first["stream"], first["task_id"], first["attempt"]) == (1, "stdout", task_id, 1)
    assert get(f"{log}?format=ndjson&after={first['cursor']}").records == answer.records[1:]
    for part in ("stream=stderr", "lines=2", "grep=err"):
        assert get(f"{log}?{part}").text == "to stderr\n"


def test_a_long_log(site: tuple[Project, str]) -> None:
    """All of it comes, in order; its end, a part, and a file are to be had by themselves."""
    project, url = site
    task_id = project.run("number_lines", 20_000).id
    ended(url, task_id)
    log = f"{url}/livelog/api/tasks/{task_id}"
    whole = "".join(f"{number}\n" for number in range(1, 20_001))
    assert get(f"{log}/log").text == whole
    assert get(f"{log}/log?tail=2").text == "19999\n20000\n"
    assert get(f"{log}/log?tail=2&grep=99").text == "19998\n19999\n"
    assert get(f"{log}/log?lines=15000-15002").text == "15000\n15001\n15002\n"
    file = get(f"{log}/download")
    assert file.text == whole
    assert file.headers["Content-Disposition"] == f'attachment; filename="{task_id}.log"'


def test_all_attempts_are_in_a_log(site: tuple[Project, str]) -> None:
    """They follow each other, with the reason why the first was not the last; one alone is to be had, too."""
    project, url = site
    task_id = project.run("retry_once").id
    wait_for(lambda: get(f"{url}/livelog/api/tasks/{task_id}").json.get("state") == "SUCCESS")
    log = f"{url}/livelog/api/tasks/{task_id}/log"
    lines = get(log).text.splitlines()
    assert lines[2].startswith("[RETRY")
    assert lines[:2] + lines[3:] == ["--- attempt 1 ---", "try 1", "--- attempt 2 ---", "try 2"]
    assert get(f"{log}?attempt=2").text == "try 2\n"
    assert get(f"{log}?attempt=3").status == 404


def test_errors_are_json_and_say_what_was_wrong(site: tuple[Project, str]) -> None:
    """Nothing is told of a task that is not there; an argument that cannot be used is named."""
    _, url = site
    for path in ("", "/log", "/download"):
        answer = get(f"{url}/livelog/api/tasks/no-such-task{path}")
        assert (answer.status, answer.json) == (404, {"error": "not found"})
    answer = get(f"{url}/livelog/api/tasks/no-such-task/log?tail=few")
    assert (answer.status, answer.json) == (400, {"error": "tail is 'few'; expected a number of records"})


def test_long_poll_and_following(site: tuple[Project, str], valkey_server: Valkey) -> None:
    """A request may wait for a task that has not started, for its next line, and stay until it ends."""
    project, url = site
    task_id, key = "task-of-long-poll", "release-long-poll"
    log = f"{url}/livelog/api/tasks/{task_id}/log?format=ndjson"
    nothing = get(f"{log}&wait=0.3")
    assert (nothing.status, nothing.body, nothing.headers["Livelog-Ended"]) == (200, b"", "0")

    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(get(f"{log}&wait=30")))
    following = threading.Thread(target=lambda: answers.append(get(f"{log}&follow=1")))
    waiting.start()
    following.start()
    project.send("hold", key, task_id=task_id)
    waiting.join(30)
    assert lines(answers[0]) == ["holding"]
    assert answers[0].headers["Livelog-Ended"] == "0"

    valkey_server.client.rpush(key, "go")
    rest = get(f"{log}&wait=30&after={answers[0].records[-1]['cursor']}")
    assert lines(rest) == ["released"]
    following.join(30)
    assert lines(answers[1]) == ["holding", "released"]
    assert answers[1].records[-1]["type"] == "log_line_end"
    last = get(f"{log}&wait=30&after={answers[1].records[-1]['cursor']}")
    assert (last.body, last.headers["Livelog-Ended"]) == (b"", "1")


# -- the WebSocket ----------------------------------------------------------------------------------------------------


def test_a_viewer_sees_a_task_live_and_after_its_end(site: tuple[Project, str], valkey_server: Valkey) -> None:
    """Lines come while the task runs; a normal close follows the end; a cursor goes on where it stands."""
    project, url = site
    task_id, key = "task-of-a-viewer", "release-viewer"
    with viewer(url, origin=url) as socket:
        subscribe(socket, task_id)
        project.send("hold", key, task_id=task_id)
        seen = records(socket)
        first = next(record for record in seen if record["type"] == "log_line")
        assert first["line"] == "holding"
        valkey_server.client.rpush(key, "go")
        rest = [record for record in seen if record["type"] != "partial"]
        assert [record.get("line", record["type"]) for record in rest] == ["released", "log_line_end"]
        assert socket.close_code == 1000
    with viewer(url) as socket:
        subscribe(socket, task_id, after=f"{first['attempt']}:{first['n']}")
        assert [record["n"] for record in records(socket)] == [record["n"] for record in rest]


def test_other_web_sites_are_refused(site: tuple[Project, str]) -> None:
    """Neither a page of another origin, nor one that has given the loopback a name of its own, gets in."""
    _, url = site
    with pytest.raises(InvalidStatus) as refused, viewer(url, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    rebound = {"Host": f"evil.example:{url.rpartition(':')[2]}"}
    for route in ROUTES:
        answer = get(url + route, rebound)
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    plain = get(f"{url}/livelog/ws")
    assert plain.status == 400


# -- who may come in --------------------------------------------------------------------------------------------------


def test_a_flower_without_authentication_is_closed(flower: Callable[..., Flower], project: Project) -> None:
    """Stock Flower listens on all interfaces and asks nobody: no log leaves it, and the page says what to do."""
    url = flower(args=["--address="]).url
    page = get(f"{url}/livelog")
    assert page.status == 403
    assert CLOSED in page.text
    for route in ROUTES[2:]:
        answer = get(url + route)
        assert (answer.status, answer.json) == (403, {"error": CLOSED})
        assert "Access-Control-Allow-Origin" not in answer.headers
    with pytest.raises(InvalidStatus), viewer(url):
        pass
    assert get(f"{url}/tasks").status == 200


def test_the_setting_opens_it(flower: Callable[..., Flower], project: Project) -> None:
    """Who wants logs in a Flower for everybody says so."""
    project.configure(livelog_flower_unauthenticated=True)
    url = flower(args=["--address="]).url
    assert get(f"{url}/livelog").status == 200
    assert get(f"{url}/livelog/api/tasks").json == {"tasks": []}


def test_basic_authentication_under_a_prefix(flower: Callable[..., Flower], project: Project) -> None:
    """Every route asks for the password, and works under ``--url-prefix``."""
    url = flower(args=["--address=", f"--basic-auth={LOGIN}", "--url-prefix=/monitor/"]).url
    for route in ROUTES:
        answer = get(url + route)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="flower"')
    with pytest.raises(InvalidStatus) as refused, viewer(url):
        pass
    assert refused.value.response.status_code == 401

    page = get(f"{url}/livelog", AUTHORIZED).text
    assert 'href="/monitor/livelog"' in page
    assert 'root="/monitor/livelog"' in page
    assert get(f"{url}/livelog/static/tasks.js").status == 200
    assert get(f"{url}/livelog/api/tasks", AUTHORIZED).json == {"tasks": []}
    assert get(f"{url}/livelog/api/tasks/some-id", AUTHORIZED).status == 404
    with viewer(url, headers=AUTHORIZED) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "hello"


def test_oauth(flower: Callable[..., Flower], project: Project) -> None:
    """Pages send who has no session to the login page; the rest refuses; whom Flower lets in may read."""
    args = ["--auth=.*@example.com", "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"]
    url = flower(args=["--address=", *args, f"--cookie-secret={SECRET}", "--oauth2-key=k", "--oauth2-secret=s"]).url
    assert get(f"{url}/livelog").status == 302
    assert get(f"{url}/livelog/api/tasks").json == {"error": "not logged in"}
    with pytest.raises(InvalidStatus) as refused, viewer(url):
        pass
    assert refused.value.response.status_code == 403

    insider, outsider = session("me@example.com"), session("me@elsewhere.example")
    assert get(f"{url}/livelog", insider).status == 200
    assert get(f"{url}/livelog/api/tasks", insider).json == {"tasks": []}
    with viewer(url, origin=url, headers=insider) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "hello"
    for origin in (None, "http://evil.example"):  # a cookie does not say which page has sent it along
        with pytest.raises(InvalidStatus) as refused, viewer(url, origin=origin, headers=insider):
            pass
        assert refused.value.response.status_code == 403
    assert get(f"{url}/livelog/api/tasks", outsider).status == 403


def session(user: str) -> dict[str, str]:
    """The cookie of a user who has logged in."""
    return {"Cookie": f"user={create_signed_value(SECRET, 'user', user).decode()}"}


# -- what the app's settings say --------------------------------------------------------------------------------------


def test_nothing_is_there_while_livelog_is_off(flower: Callable[..., Flower], project: Project) -> None:
    """A Flower of an app without livelog is as it would be without this package."""
    project.configure(livelog=None)
    url = flower().url
    assert "livelog" not in get(f"{url}/tasks").text
    assert {get(url + route).status for route in ROUTES} == {404}


def test_settings_that_cannot_be_used_are_told(flower: Callable[..., Flower], project: Project) -> None:
    """A mistake in the app's settings costs the logs, not Flower, and the page says what it is."""
    project.configure(livelog_maxlenn=5)
    url = flower().url
    page = get(f"{url}/livelog")
    assert page.status == 503
    assert "did you mean livelog_maxlen?" in page.text
    assert get(f"{url}/livelog/api/tasks").json["error"].startswith("livelog_maxlenn is not a setting")
    assert get(f"{url}/tasks").status == 200
