"""The course of a test with a fault: two tasks talk, the fault comes and goes, and all that is left is judged."""

from __future__ import annotations

import time

from tests.faults.matrix import Fault
from tests.faults.oracle import complete, judge
from tests.faults.site import Site, Talk
from tests.nodes import logs
from tests.nodes.waiting import wait_for

#: Lines that are printed before a fault, and under it.
_BEFORE, _UNDER = 200, 1500


def survive(site: Site, fault: Fault) -> None:
    """Inject a fault while two tasks talk, heal it, and judge."""
    told = len(site.said())
    talks = [site.talk(), site.talk(fail=True)]
    try:
        endure(site, fault, talks)
    finally:
        for talk in talks:
            talk.notes.stop()
    for talk in talks:
        check_outcome(talk)
        check_archive(site, talk)
        check_live(site, talk)
    assert site.keys.eternal == set()
    wait_for(lambda: not fault.says or " again, after " in site.said(told)[-1], what="word that it works again")
    check_words(site.said(told), fault)


def endure(site: Site, fault: Fault, talks: list[Talk]) -> None:
    """From the fault's begin, in the middle of the tasks, until they are seen live again."""
    told = len(site.said())
    seen = [talk.followers[0] for talk in talks]
    wait_for(lambda: all(follower.n > _BEFORE for follower in seen), what="lines in the live view")
    with fault.inject(site):
        if fault.says:
            wait_for(lambda: len(site.said()) > told, what="a warning")
        printed = [talk.notes.done for talk in talks]
        wait_for(lambda: all(talk.notes.done > n + _UNDER for talk, n in zip(talks, printed, strict=True)))
    printed = [talk.notes.done for talk in talks]
    wait_for(lambda: all(follower.n > n for follower, n in zip(seen, printed, strict=True)), what="a live view again")


def still_talking(talks: list[Talk], seconds: float) -> None:
    """Let time go by in which the tasks print on."""
    printed = [talk.notes.done for talk in talks]
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, seconds + 10)
    wait_for(lambda: all(talk.notes.done > n for talk, n in zip(talks, printed, strict=True)), what="what tasks print")


def check_outcome(talk: Talk) -> None:
    """The task has ended as it would have without livelog."""
    outcome = talk.result.get(timeout=60, propagate=False)
    if talk.fails:
        assert (talk.result.state, type(outcome), outcome.args) == ("FAILURE", RuntimeError, ("deliberate",))
        assert "celery_livelog" not in talk.result.traceback
    else:
        assert (talk.result.state, outcome) == ("SUCCESS", 42)


def check_archive(site: Site, talk: Talk) -> None:
    """Every line is in the archive, in order, once; and it is known how the task has ended."""
    verdict = complete(logs.archived(site.project, talk.task_id), talk.notes.done)
    assert verdict.wrong == []
    assert verdict.end is not None
    assert verdict.end.state == talk.result.state


def check_live(site: Site, talk: Talk) -> None:
    """Who followed, and who comes later, sees each line once, or that it was skipped."""
    (follower,) = talk.followers
    follower.wait(30)
    assert judge(follower.records, talk.notes.done).wrong == []
    assert judge(site.seen_elsewhere(talk.task_id), talk.notes.done).wrong == []


def check_words(said: list[str], fault: Fault) -> None:
    """One warning that says what happens and what to do, and once that it is over; nothing where nothing fails."""
    if not fault.says:
        assert fault.says is None or said == []
        return
    warning, again = said
    assert warning.startswith(f"{fault.sink} cannot be written (")
    assert fault.says in warning
    assert again.startswith(f"{fault.sink} is written again, after ")
