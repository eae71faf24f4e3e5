"""The site's own rule, ``livelog_permission``: ``may(viewer, action, task) -> bool``. It is asked nowhere but here.

Rules:
- only True is a yes: whatever else it gives, or raises, is a no, and but for False is said on stderr;
- it may be slow or ask a database: it runs in threads of its own, and a whole list is one hop to them;
- it is also asked for what there is not, and its answer is dropped: else the time it takes would tell what there is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from typing import Any

from celery.utils.imports import cwd_in_path
from kombu.utils.imports import symbol_by_name

from celery_livelog.attempts import Attempt
from celery_livelog.errors import SettingsError, complain, said
from celery_livelog.permissions import Viewer
from celery_livelog.runs import RunView

Thing = Attempt | RunView
May = Callable[[Viewer, str, Any], object]

#: Questions that are asked at once.
_THREADS = 4


class Rule:
    """A site's rule; without one, all that a viewer's scopes hold may be seen.

    :param path: the dotted path of the rule.
    :raises SettingsError: when it cannot be imported or called.
    """

    def __init__(self, path: str | None) -> None:
        self._may = None if path is None else load(path)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="livelog-permission")

    def __bool__(self) -> bool:
        """Whether the site has one."""
        return self._may is not None

    async def allows(
        self, viewer: Viewer, actions: Sequence[str], groups: Sequence[Sequence[Thing]], *, exist: bool = True
    ) -> list[bool]:
        """Of which groups, such as the attempts of a task, a viewer may do all of this to all.

        :param exist: whether they are there at all; of those that are not nothing is allowed, nor said on stderr.
        """
        if self._may is None:
            return [exist] * len(groups)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask_all, viewer, actions, groups, exist)

    def close(self) -> None:
        """Wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask_all(
        self, viewer: Viewer, actions: Sequence[str], groups: Sequence[Sequence[Thing]], exist: bool
    ) -> list[bool]:
        _renew_connections()
        answers = [
            all(self._ask(viewer, action, thing, exist) for thing in group for action in actions) for group in groups
        ]
        _renew_connections()
        return [exist and answer for answer in answers]

    def _ask(self, viewer: Viewer, action: str, thing: Thing, exist: bool) -> bool:
        assert self._may is not None
        try:
            answer = self._may(viewer, action, thing)
        except BaseException as error:  # noqa: BLE001 - it is the site's: a SystemExit would end the server
            if exist:
                complain("livelog_permission failed, which is a no", error)
            return False
        if exist and not isinstance(answer, bool):
            complain(f"livelog_permission gave {_kind(answer)}, which is a no; expected True or False")
        return answer is True


def load(path: str) -> May:
    """The function at a path.

    :raises SettingsError: when there is none.
    """
    try:
        with cwd_in_path():
            may: Any = symbol_by_name(path)  # type: ignore[no-untyped-call]
    except Exception as error:  # the module is the site's: anything may come out of it
        reason = " ".join(said(error).split())
        raise SettingsError(f"livelog_permission is {path!r}, which cannot be imported: {reason}") from error
    if not callable(may) or iscoroutinefunction(may):
        raise SettingsError(f"livelog_permission is {path!r}; expected a plain function may(viewer, action, task)")
    found: May = may
    return found


def _renew_connections() -> None:
    """Let go of Django's connections that are broken or too old, as it does itself around a request."""
    conf, db = sys.modules.get("django.conf"), sys.modules.get("django.db")
    if conf is not None and db is not None and conf.settings.configured:
        db.close_old_connections()


def _kind(answer: object) -> str:
    """What was given: by its type, as its text may be anything."""
    return "None" if answer is None else f"a value of type {type(answer).__name__}"
