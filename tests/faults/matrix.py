"""The faults, one row each: how it is injected for real, and what of it is said and shown."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.proxy import Mode
from tests.faults.site import Site
from tests.nodes.process import free_port
from tests.nodes.waiting import wait_for

Injection = Callable[[Site], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A row. The fault lasts until the context is left.

    :param says: a part of the one warning that the worker's console gets; "" where nothing is to be said, as all works;
        None where chance decides.
    :param sink: what fails then.
    """

    name: str
    inject: Injection
    says: str | None = ""
    sink: str = "the live stream"


@contextmanager
def killed(site: Site) -> Iterator[None]:
    """Redis dies, and comes back with nothing in it."""
    site.live.kill()
    yield
    site.live.start()


@contextmanager
def hung(site: Site) -> Iterator[None]:
    """Redis is stopped; the kernel still takes what is sent to it."""
    site.live.send(signal.SIGSTOP)
    try:
        yield
    finally:
        site.live.send(signal.SIGCONT)


@contextmanager
def emptied(site: Site) -> Iterator[None]:
    """Somebody deletes all there is."""
    site.admin.flushall()
    yield


@contextmanager
def ahead(site: Site) -> Iterator[None]:
    """Redis' clock was years ahead for a moment: all further ids count on from there. The entry is not one of ours."""
    for key in site.admin.scan_iter("task:logs:chatter*"):
        site.admin.xadd(key, {"foreign": "entry"}, id="9999999999999-0")
    yield


@contextmanager
def out_of_memory(site: Site) -> Iterator[None]:
    """Redis has no memory left and evicts nothing."""
    site.admin.config_set("maxmemory", 1)
    try:
        yield
    finally:
        site.admin.config_set("maxmemory", 0)


def evicting(policy: str) -> Injection:
    """Redis has little memory left and throws keys away."""

    @contextmanager
    def inject(site: Site) -> Iterator[None]:
        used = site.admin.info("memory")["used_memory"]
        site.admin.config_set("maxmemory-policy", policy)
        before = site.admin.info("stats")["evicted_keys"]
        site.admin.config_set("maxmemory", used)
        try:
            wait_for(lambda: site.admin.info("stats")["evicted_keys"] > before, what="an eviction")
            site.admin.config_set("maxmemory", used + 100_000)
            yield
        finally:
            site.admin.config_set("maxmemory", 0)
            site.admin.config_set("maxmemory-policy", "noeviction")

    return inject


@contextmanager
def replica(site: Site) -> Iterator[None]:
    """After a failover Redis is the replica of another."""
    site.admin.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        site.admin.replicaof("no", "one")


@contextmanager
def wrong_password(site: Site) -> Iterator[None]:
    """The password was changed, and everybody has to log in again."""
    chief = site.admin
    chief.config_set("requirepass", "another")
    chief.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        chief.config_set("requirepass", "")


@contextmanager
def no_permission(site: Site) -> Iterator[None]:
    """Our user may not write any more."""
    site.admin.acl_setuser("default", enabled=True, commands=["-xadd"])
    try:
        yield
    finally:
        site.admin.acl_setuser("default", enabled=True, commands=["+xadd"])


@contextmanager
def disk_full(site: Site) -> Iterator[None]:
    """Redis cannot save to its disk, and takes no writes therefore."""
    gone = site.directory / "gone"
    gone.mkdir()
    site.admin.config_set("dir", str(gone))
    gone.rmdir()
    site.admin.config_set("save", "3600 1000000000")
    site.admin.bgsave()
    wait_for(lambda: site.admin.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    try:
        yield
    finally:
        site.admin.config_set("save", "")


@contextmanager
def too_many_clients(site: Site) -> Iterator[None]:
    """Redis takes no further connection."""
    chief = site.admin
    chief.config_set("maxclients", 1)
    chief.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        chief.config_set("maxclients", 1000)


def broken(mode: Mode) -> Injection:
    """The network does something to connections."""

    @contextmanager
    def inject(site: Site) -> Iterator[None]:
        site.proxy.mode = mode
        try:
            yield
        finally:
            site.proxy.mode = Mode.PASS

    return inject


@contextmanager
def shipper_killed(site: Site) -> Iterator[None]:
    """The shipper dies."""
    site.shipper.kill()
    yield


@contextmanager
def shipper_stopped(site: Site) -> Iterator[None]:
    """The shipper hangs for a while."""
    shipper = site.shipper
    shipper.suspend()
    try:
        yield
    finally:
        shipper.resume()


@contextmanager
def database_locked(site: Site) -> Iterator[None]:
    """Another process holds the catalog's file."""
    holder = sqlite3.connect(_catalog(site), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        site.project.run("print_lines")
        yield
    finally:
        holder.close()


@contextmanager
def database_gone(site: Site) -> Iterator[None]:
    """The catalog's file is deleted, with something in its place that is none."""
    path = _catalog(site)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    path.mkdir()
    try:
        site.project.run("print_lines")
        yield
    finally:
        path.rmdir()


def _catalog(site: Site) -> Path:
    return Path(site.project.settings.database_url.removeprefix("sqlite:///"))


#: Redis is gone, or back without what it held.
GONE = [
    Fault("killed and back empty", killed, "Redis"),
    Fault("hung", hung, "Timeout"),
    Fault("emptied", emptied),
    Fault("clock ahead", ahead),
    Fault("evicting volatile keys", evicting("volatile-lru"), None),
    Fault("evicting any key", evicting("allkeys-lru"), None),
]
#: Redis answers, but takes nothing.
REFUSES = [
    Fault("out of memory", out_of_memory, "raise its maxmemory"),
    Fault("read-only replica", replica, "let it lead to the primary"),
    Fault("no permission", no_permission, "the rights that docs/redis.md names"),
    Fault("disk full there", disk_full, "make room there"),
]
#: Redis lets nobody in.
CLOSED = [
    Fault("wrong password", wrong_password, "correct the user or the password"),
    # It says so and closes at once: who is still sending gets a broken pipe, and may not read it.
    Fault("too many clients", too_many_clients, "What to do with Redis: "),
    Fault("nobody listens", broken(Mode.REFUSE), "is it up and reachable?"),
]
#: The network is broken.
NETWORK = [
    Fault("slow", broken(Mode.SLOW)),
    Fault("black hole", broken(Mode.BLACKHOLE), "is it up and reachable?"),
    Fault("answers lost after execution", broken(Mode.NO_REPLY), "is it up and reachable?"),
    Fault("reset after execution", broken(Mode.RESET), "is it up and reachable?"),
    Fault("reset in the middle of a pipeline", broken(Mode.CUT), "is it up and reachable?"),
]
#: The shipper or the catalog.
OURS = [
    Fault("shipper killed", shipper_killed),
    Fault("shipper stopped", shipper_stopped),
    Fault("database locked", database_locked, "locked", "the catalog"),
    Fault("database gone", database_gone, "unable to open", "the catalog"),
]
EVERY = [*GONE, *REFUSES, *CLOSED, *NETWORK, *OURS]
