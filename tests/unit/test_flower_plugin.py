"""The parts of the Flower tab that need no Flower."""

from __future__ import annotations

import base64
import subprocess
import sys
from types import SimpleNamespace

import pytest

from celery_livelog.flower_plugin.access import is_open, viewer_of
from celery_livelog.flower_plugin.tab import add_tab
from celery_livelog.permissions import EVERYTHING

# As Flower 2.0, and 2.1 and later, render their navigation bars.
NAVBAR_20 = """
<ul class="navbar-nav mr-auto">
  <li class="nav-item active">
    <a class="nav-link text-dark" href="/workers">Workers</a>
  </li>
  <li class="nav-item">
    <a class="nav-link text-dark" href="/tasks">Tasks</a>
  </li>
  <li class="nav-item">
    <a class="nav-link text-dark" href="/broker">Broker</a>
  </li>
</ul>
"""
NAVBAR_22 = """
<ul class="app-nav navbar-nav">
  <li class="nav-item">
    <a class="nav-link active"
      href="/tasks"
      aria-current="page">Tasks</a>
  </li>
  <li class="nav-item">
    <a class="nav-link"
      href="/broker"
      >Broker</a>
  </li>
</ul>
"""


def options(**given: object) -> SimpleNamespace:
    return SimpleNamespace(**{"auth": "", "basic_auth": None, "address": "", "unix_socket": "", **given})


@pytest.mark.parametrize("navbar", [NAVBAR_20, NAVBAR_22])
@pytest.mark.parametrize("active", [False, True])
def test_the_tab_is_a_copy_of_the_tasks_tab(navbar: str, active: bool) -> None:
    """It stands behind Tasks, leads to our page, and is marked as the current one only when it is."""
    changed = add_tab(navbar, "/tasks", "/livelog", active)
    before, tab, after = changed.partition('href="/livelog"')
    assert tab
    assert "Tasks" in before
    assert ">Live logs<" in after
    assert "Broker" in after
    item = changed[changed.index("<li", before.rindex("Tasks")) : changed.index("</li>", len(before))]
    assert ("nav-link active" in item) == ('aria-current="page"' in item) == active
    assert changed.replace(item + "</li>", "").split() == navbar.split()


def test_an_unknown_navigation_bar_stays_as_it_is() -> None:
    """A Flower with other markup has no tab, and no damage."""
    assert add_tab("<nav><a href='/tasks'>Tasks</a></nav>", "/tasks", "/livelog", False).count("livelog") == 0


@pytest.mark.parametrize(
    ("flower", "host"),
    [
        (options(basic_auth=["user:secret"]), "flower.example"),
        (options(auth=".*@example.com"), "flower.example"),
        (options(address="127.0.0.1"), "127.0.0.1"),
        (options(address="127.0.0.1"), "localhost"),
        (options(address="localhost"), "flower.localhost"),
        (options(address="::1"), "[::1]"),
        (options(unix_socket="/run/flower.sock"), "flower.example"),
    ],
)
def test_open_with_authentication_or_on_loopback(flower: SimpleNamespace, host: str) -> None:
    """Who has passed Flower's own door, or sits at the machine, may read."""
    assert is_open(flower, host, unauthenticated=False)


@pytest.mark.parametrize(
    ("flower", "host"),
    [
        (options(), "127.0.0.1"),
        (options(address="0.0.0.0"), "127.0.0.1"),
        (options(address="192.0.2.7"), "192.0.2.7"),
        (options(address="127.0.0.1"), "rebound.example"),
        (options(address="127.0.0.1"), "127.0.0.1.example"),
    ],
)
def test_closed_otherwise(flower: SimpleNamespace, host: str) -> None:
    """Flower's default is to listen on all interfaces; and a web page may give 127.0.0.1 a name of its own."""
    assert not is_open(flower, host, unauthenticated=False)
    assert is_open(flower, host, unauthenticated=True)


BEFORE_FLOWER = """
from celery_livelog.flower_plugin import hook
hook(); hook()
import sys
assert "flower" not in sys.modules and "tornado" not in sys.modules
import flower.urls
hook()
"""
AFTER_FLOWER = """
import flower.urls
from celery_livelog.flower_plugin import hook
hook(); hook()
"""
CHECK = """
import sys
from celery_livelog.flower_plugin.tables import LazyRoute
ours = [route for route in flower.urls.handlers if isinstance(route, LazyRoute)]
assert len(ours) == 5 and flower.urls.handlers[:5] == ours, ours
assert "celery_livelog.flower_plugin.views" not in sys.modules
from flower.app import rewrite_handler
assert ours[0].handler_class.__name__ == rewrite_handler(ours[0], "prefix").handler_class.__name__ == "ListPage"
"""


@pytest.mark.parametrize("order", [BEFORE_FLOWER, AFTER_FLOWER])
def test_the_hook_works_before_and_after_flower_is_loaded(order: str) -> None:
    """The tab comes once, whichever is loaded first, and what it needs is loaded when a Flower starts."""
    done = subprocess.run([sys.executable, "-c", order + CHECK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_flower_that_cannot_be_extended_goes_on() -> None:
    """What is wrong with the tab is one line on stderr."""
    code = "import sys; sys.modules['celery_livelog.flower_plugin.tables'] = None\n"
    code += (
        "from celery_livelog.flower_plugin import hook; hook(); import flower.urls; print(len(flower.urls.handlers))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert int(done.stdout) > 0
    assert done.stderr.startswith("celery-livelog: no Live logs tab in this Flower: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("user", "basic_auth", "name", "seen"),
    [
        ("me@example.com", [], "me@example.com", EVERYTHING),
        (True, ["bob:secret", "eve:other"], "bob", EVERYTHING),
        (True, [], "", EVERYTHING),
        (None, [], "", ()),
    ],
    ids=["OAuth", "basic", "no authentication", "not logged in"],
)
def test_who_asks(user: object, basic_auth: list[str], name: str, seen: object) -> None:
    """The user as Flower knows it; a password is no part of the name, and a header that nobody has checked is none."""
    headers = {"Authorization": "Basic " + base64.b64encode(b"bob:secret").decode()}
    viewer = viewer_of(user, SimpleNamespace(headers=headers, remote_ip="192.0.2.1"), basic_auth)
    assert (viewer.via, viewer.name, viewer.address, viewer.seen) == ("flower", name, "192.0.2.1", seen)
