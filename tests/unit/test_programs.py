"""Programs without their logs: exit codes, what is shown of raw files, what a command line leads to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from celery_livelog.attempts import Attempt
from celery_livelog.cli import exec as command
from celery_livelog.cli.__main__ import main
from celery_livelog.programs import process, running
from celery_livelog.programs.console import Console
from celery_livelog.programs.running import Order, attempt_of
from celery_livelog.settings import Settings
from tests.nodes.waiting import wait_for


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_dir": str(tmp_path)}, {"API_TOKEN": "s3cret-s3cret"})


@pytest.mark.parametrize(
    ("program", "exit_code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -9 $$"], 128 + signal.SIGKILL),
        (["no-such-program"], 127),
        (["/no/such/program"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
    ],
)
def test_exit_codes(program: list[str], exit_code: int, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a shell has for the same, with and without a terminal."""
    monkeypatch.setattr(running, "_record", lambda order, settings: None)
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.01)  # a thread of the test runner may be told of the program's end
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for terminal in (False, True):
        order = Order(command=program, attempt=Attempt(attempt="a", task_id="t"), terminal=terminal)
        assert running.run(order, settings) == exit_code
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_what_is_known_of_a_program(settings: Settings) -> None:
    """Without secrets, and as text, whatever bytes its arguments are."""
    attempt = attempt_of("id", ["/usr/bin/curl", "-u", "me:s3cret-s3cret", "caf\udce9 x"], None, settings)
    assert (attempt.name, attempt.args) == ("curl", "/usr/bin/curl -u me:*** 'caf\\udce9 x'")
    assert attempt_of("id", ["true"], "named", settings).name == "named"


def test_without_an_id_one_is_made_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    orders: list[Order] = []

    def run(order: Order, settings: Settings) -> int:
        orders.append(order)
        return 5

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setenv("LIVELOG_DIR", str(tmp_path))
    result = CliRunner().invoke(main, ["exec", "--pty", "ls", "--quiet", "-l"])
    assert result.exit_code == 5
    (order,) = orders
    assert (order.command, order.terminal, order.quiet) == (("ls", "--quiet", "-l"), True, False)
    assert capfd.readouterr().err == f"celery-livelog: this is the log of task {order.attempt.task_id}\n"


def test_settings_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """One line, and nothing is run."""
    monkeypatch.setattr(command, "run", lambda order, settings: pytest.fail("it was run"))
    monkeypatch.setenv("LIVELOG_MAXLIN", "7")
    result = CliRunner().invoke(main, ["exec", "--id", "x", "ls"])
    assert result.exit_code == 125
    assert capfd.readouterr().err.count("\n") == 1


class Raw:
    """The raw file of one stream, and a console of which a test sees what is shown."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "stdout"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.read, self.shown_on = os.pipe()
        self.shown = 0
        self.console = Console({self.shown_on: self.fd}, self._shown)

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def _shown(self, stream: int, size: int) -> None:
        self.shown = size


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Raw]:
    raw = Raw(tmp_path)
    yield raw
    raw.console.finish()
    for fd in (raw.fd, raw.read, raw.shown_on):
        try:
            os.close(fd)
        except OSError:
            pass  # the test has done it


def test_what_is_written_is_shown_at_the_readers_pace(raw: Raw) -> None:
    raw.write(b"x" * 1_000_000)
    got = b""
    while len(got) < 1_000_000:
        got += os.read(raw.read, 1 << 16)
    wait_for(lambda: raw.shown == 1_000_000)
    raw.write(b"the end")
    finishing = threading.Thread(target=raw.console.finish)
    finishing.start()
    assert os.read(raw.read, 100) == b"the end"
    finishing.join()


def test_a_file_that_was_emptied_is_shown_from_its_start(raw: Raw) -> None:
    """As by a shell's ``> /dev/stdout``."""
    raw.write(b"before, and more than comes then")
    assert os.read(raw.read, 100) == b"before, and more than comes then"
    os.ftruncate(raw.fd, 0)
    raw.write(b"after")
    assert os.read(raw.read, 100) == b"after"


def test_a_console_that_is_gone_holds_nothing_up(raw: Raw) -> None:
    os.close(raw.read)
    raw.write(b"x" * 1_000_000)
    wait_for(lambda: raw.shown == 1_000_000)


def test_who_does_not_want_to_wait_for_a_console_need_not(raw: Raw) -> None:
    """It takes nothing, and whoever waits for exec wants it to end."""
    raw.write(b"x" * 1_000_000)
    raw.console.finish(lambda: True)
    assert raw.shown < 1_000_000
    os.close(raw.read)


def test_what_was_given_up_for_want_of_room_is_said(raw: Raw, capfd: Any) -> None:
    """Where it was is a hole."""
    os.ftruncate(raw.fd, 1 << 20)
    raw.write(b"what comes then")
    got = b""
    while b"then" not in got:
        got += os.read(raw.read, 1 << 20)
    assert got == b"what comes then"
    assert "1048576 bytes are not shown" in capfd.readouterr().err
