"""Makes tokens for viewers, in whatever has a Celery app: a view of Django or Flask, a script, a task."""

from __future__ import annotations

import time
from typing import Any

from celery import current_app

from celery_livelog.access.tokens import Tokens
from celery_livelog.errors import TokenError
from celery_livelog.settings import Settings


def token(
    task_id: str | None = None,
    *,
    run_id: str | None = None,
    ttl: float = 3600,
    account: str | None = None,
    site: str | None = None,
    name: str = "",
    app: Any = None,
) -> str:
    """A token that shows one task, which need not have started, or one run with its tasks, and nothing else.

    :param ttl: seconds after which it is over, also for one who watches then.
    :param account: with which the task or run was begun. Of a run that was begun with one, it must be given.
    :param site: likewise.
    :param name: what ``livelog_permission`` is told as the viewer's name.
    :param app: the Celery app with ``livelog_secret_key``; if not given, the current one.
    :raises TokenError: when there is no key, or when nothing or not enough says what it is for.
    """
    wanted = {"task_id": task_id, "run_id": run_id, "account": account, "site": site, "name": name}
    for what, value in wanted.items():
        if value is not None and not isinstance(value, str):
            raise TokenError(f"the {what} of a token is {value!r:.80}; expected a text")
    if ttl <= 0:
        raise TokenError(f"the ttl of a token is {ttl!r}; expected seconds above 0")
    settings = Settings.from_conf((current_app if app is None else app).conf)
    given = {what: value for what, value in wanted.items() if value}
    return Tokens(settings.secret_key).view(**given, expires=time.time() + ttl)
