"""Faults of Redis that need a site of their own: from the start, of a single key, of rights, of the time to live."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.course import check_archive, check_live, check_outcome
from tests.faults.oracle import judge
from tests.faults.proxy import Mode
from tests.faults.site import Site, Talk
from tests.nodes import logs
from tests.nodes.waiting import wait_for

_DOCS = Path(__file__).parents[2] / "docs" / "redis.md"


@contextmanager
def opened(directory: Path, **settings: Any) -> Iterator[Site]:
    """A site without a worker as yet."""
    site = Site(directory, **settings)
    try:
        yield site
    finally:
        site.close()


def finish(site: Site, talk: Talk) -> None:
    """Let a talk come to its end, and judge it."""
    talk.notes.stop()
    check_outcome(talk)
    check_archive(site, talk)
    if talk.followers:
        check_live(site, talk)
    assert site.keys.eternal == set()


def test_down_at_the_start(tmp_path: Path) -> None:
    """The worker starts and its tasks run; when Redis comes, so does the live view."""
    with opened(tmp_path) as site:
        site.proxy.mode = Mode.REFUSE
        site.start_worker()
        early = site.talk()
        wait_for(lambda: early.notes.done > 100)
        early.notes.stop()
        check_outcome(early)
        late = site.talk(fail=True)
        wait_for(lambda: late.notes.done > 100 and site.said())
        site.proxy.mode = Mode.PASS
        printed = late.notes.done
        wait_for(lambda: late.followers[0].n > printed, what="a live view")
        finish(site, late)
        finish(site, early)
        wait_for(lambda: len(site.said()) == 2)
        assert [word in said for word, said in zip(("Connection refused", "again"), site.said(), strict=True)] == [
            True
        ] * 2


def test_a_key_that_is_no_stream(tmp_path: Path) -> None:
    """That log is in the archive alone and is read from there; the others are live; one line says so."""
    with opened(tmp_path) as site:
        site.admin.set("task:logs:taken", "a text", ex=600)
        site.start_worker()
        taken, other = site.talk(task_id="taken", follow=False), site.talk()
        wait_for(lambda: other.followers[0].n > 1000 and taken.notes.done > 1000)
        taken.notes.stop()
        check_outcome(taken)
        check_archive(site, taken)
        gap, _ = wait_for(lambda: site.seen_elsewhere("taken"), what="what is known of it elsewhere")
        assert (gap.reason, gap.skipped) == ("elsewhere", taken.notes.done)
        finish(site, other)
        assert site.admin.get("task:logs:taken") == "a text"
        (said,) = site.said()
        assert said.startswith("the log of taken is not live: its key in Redis is no stream")


def test_a_key_that_is_taken_for_a_while(tmp_path: Path) -> None:
    """What could not be written meanwhile is counted in its place."""
    with opened(tmp_path) as site:
        site.start_worker()
        talk = site.talk()
        wait_for(lambda: talk.followers[0].n > 100)
        site.admin.delete(f"task:logs:{talk.task_id}")
        site.admin.set(f"task:logs:{talk.task_id}", "a text", ex=600)
        wait_for(site.said)
        site.admin.delete(f"task:logs:{talk.task_id}")
        printed = talk.notes.done
        wait_for(lambda: talk.followers[0].n > printed, what="a live view again")
        finish(site, talk)
        assert logs.skipped(talk.followers[0].records) > 0


def test_rights_of_the_docs(tmp_path: Path) -> None:
    """A writer and a reader with no more rights than the docs give them do all that is needed."""
    rules = re.findall(r"^ACL SETUSER (.*)$", _DOCS.read_text(), re.MULTILINE)
    with opened(tmp_path, livelog_keep_finished=1) as site:
        for rule in rules:
            site.admin.execute_command("ACL", "SETUSER", *rule.split())
        site.admin.execute_command("ACL", "SETUSER", "default", "off")
        here = f"127.0.0.1:{site.proxy.port}/0"
        site.project.configure(livelog_redis_url=f"redis://livelog-writer:WRITER-PASSWORD@{here}")
        site.start_worker()
        first = site.talk(follow=False)
        site.project.configure(livelog_redis_url=f"redis://livelog-reader:READER-PASSWORD@{here}")  # as a server has it
        follower = site.follow(first)
        wait_for(lambda: follower.n > 100)
        first.notes.stop()
        wait_for(lambda: follower.over)
        assert judge(follower.records, first.notes.done).wrong == []
        second = site.talk(follow=False)
        wait_for(lambda: second.notes.done > 100)
        finish(site, second)
        wait_for(lambda: not site.admin.exists(f"task:logs:{first.task_id}"), what="the bound on finished streams")
        wait_for(lambda: judge(site.seen_elsewhere(second.task_id), second.notes.done).wrong == [])
        assert site.said() == []
        denied = [entry for entry in site.admin.acl_log() if "client|setinfo" not in entry["object"]]
        assert denied == []


def test_a_time_to_live_is_renewed_and_may_lapse(tmp_path: Path) -> None:
    """A stream lives while it is written to. Of a task that is silent for longer it goes, and begins anew."""
    with opened(tmp_path, livelog_expires=1) as site:
        site.start_worker()
        talk = site.talk()
        waiting = site.project.send("print_in_turns", "go", 10)
        wait_for(lambda: talk.followers[0].n > 10)
        wait_for(lambda: site.admin.exists(f"task:logs:{waiting.id}"))
        wait_for(lambda: not site.admin.exists(f"task:logs:{waiting.id}"), what="the end of a silent task's stream")
        assert site.admin.xrange(f"task:logs:{talk.task_id}", count=1)[0][1]["n"] == "1"  # it is from before that
        talk.notes.stop()
        site.broker.client.rpush("go", 1)
        found = wait_for(lambda: site.seen_elsewhere(waiting.id))
        assert (logs.skipped(found[:1]), logs.lines(found)[:1]) == (10, ["11"])
        assert logs.lines(logs.archived(site.project, waiting.id)) == [str(number) for number in range(1, 21)]
        assert site.keys.eternal == set()


def test_memory_is_bounded_while_redis_is_away(tmp_path: Path) -> None:
    """Many tasks print much while nobody takes it: what waits for Redis does not grow with that."""
    with opened(tmp_path) as site:
        site.proxy.mode = Mode.REFUSE
        site.start_worker()
        site.project.configure(livelog_redis_url=site.broker.url)  # for us, who read: one that answers
        grown = []
        try:
            for _ in range(3):
                sent = [site.project.send("print_lines", 1500, "x" * 2000) for _ in range(12)]
                for result in sent:
                    logs.archived(site.project, result.id)
                grown.append(site.shipper.memory_info().rss)
        finally:
            site.proxy.mode = Mode.PASS
        assert grown[-1] - grown[0] < 40 * 1024 * 1024
        assert site.worker.stop() == 0
