"""Who asks, and what that viewer may see: scopes, and the site's own rule. Pure: it asks no store.

Rules:
- a viewer has any number of scopes, and sees what lies in one of them; with none, nothing;
- all conditions of a scope must hold, and what is not known of a run or task fulfils none;
- a condition that is empty is an error: a missing value must never widen what is seen;
- the site's rule, ``livelog_permission``, narrows what scopes hold and never widens it; one that fails says no.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery_livelog.errors import LivelogError

#: The field of a run that names its owner: ``run(user_id=request.user.id)``.
OWNER = "user_id"

#: What a viewer does, as the site's rule is asked.
LIST, LIVE, ARCHIVE, DOWNLOAD, SEARCH, RUNS = "list", "live", "archive", "download", "search", "runs"


class ScopeError(LivelogError):
    """Raised when what shall be seen cannot be told from what was given."""


class _Absent:
    """In place of a condition that was not asked for; None is a condition, and a wrong one."""


_ABSENT = _Absent()


@dataclass(frozen=True, slots=True, init=False)
class Scope:
    """Runs and tasks that share an account, a site within it, an owner, or several of these; or one task, or one run.

    :param account: the `account` that they were begun with.
    :param site: the `site`; site names are often only unique within an account: then give both.
    :param owner: the `user_id` that the run was begun with, such as ``request.user.pk``.
    :param task_id: exactly this task, also before anything is known of it.
    :param run_id: exactly this run and its tasks. Any account may have a run with this id: of one that was begun with
        an account or a site, give these, too; without them it is a run that was begun without.
    :raises ScopeError: when no condition is given, or one is empty: None, ``""``.
    """

    account: str | None
    site: str | None
    owners: frozenset[str]
    task_id: str | None
    run_id: str | None

    def __init__(
        self,
        *,
        account: Any = _ABSENT,
        site: Any = _ABSENT,
        owner: Any = _ABSENT,
        task_id: Any = _ABSENT,
        run_id: Any = _ABSENT,
    ) -> None:
        if all(given is _ABSENT for given in (account, site, owner, task_id, run_id)):
            raise ScopeError("a scope without a condition; expected account, site, owner, task_id or run_id")
        object.__setattr__(self, "account", None if account is _ABSENT else _text("account", account))
        object.__setattr__(self, "site", None if site is _ABSENT else _text("site", site))
        # `run` takes what is no text as its representation.
        owners = () if owner is _ABSENT else (_text("owner", owner), owner if isinstance(owner, str) else repr(owner))
        object.__setattr__(self, "owners", frozenset(owners))
        object.__setattr__(self, "task_id", None if task_id is _ABSENT else _text("task_id", task_id))
        object.__setattr__(self, "run_id", None if run_id is _ABSENT else _text("run_id", run_id))

    @property
    def place(self) -> tuple[str | None, str | None]:
        """The account and the site that all in it has; None for any."""
        return (self.account, self.site) if self.run_id is None else (self.account or "", self.site or "")

    def opens(self, task_id: str) -> bool:
        """Whether it holds a task by its id alone, whatever is known of that."""
        conditions = (self.account, self.site, self.run_id)
        return self.task_id in (None, task_id) and not self.owners and all(given is None for given in conditions)

    def holds(self, account: str, site: str, run_id: str = "") -> bool:
        """Whether something of this account, site and run is in it, as far as these tell."""
        place = self.place
        return place[0] in (None, account) and place[1] in (None, site) and self.run_id in (None, run_id)


@dataclass(frozen=True, slots=True, init=False)
class Everything(Scope):
    """What a viewer sees who may see all: a scope without conditions, which no missing value can make."""

    def __init__(self) -> None:
        for name in ("account", "site", "task_id", "run_id"):
            object.__setattr__(self, name, None)
        object.__setattr__(self, "owners", frozenset())


EVERYTHING = Everything()

Seen = Everything | tuple[Scope, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Whoever asks for a log.

    :param via: the window: ``flower``, ``django``, ``relay``, ``asgi``, ``cli``; ``token`` with a token, wherever.
    :param name: what the window calls the user; empty for nobody in particular.
    :param address: the IP address, where one is known.
    :param seen: the bounds of what the viewer may see.
    :param user: what the window knows of the user, such as Django's ``request.user``.
    :param expires: when that ends, in seconds since 1970; None for a viewer whom the window itself lets in.
    """

    via: str
    name: str = ""
    address: str = ""
    seen: Seen = ()
    user: Any = None
    expires: float | None = None

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The bounds of what the viewer may see, as scopes."""
        return (self.seen,) if isinstance(self.seen, Everything) else self.seen

    def over(self, now: float) -> bool:
        """Whether that has ended.

        :param now: seconds since 1970.
        """
        return self.expires is not None and now >= self.expires


def seen(given: Any) -> Seen:
    """What is seen by one who was given this: a scope, several, `EVERYTHING`, or None for nothing.

    :raises ScopeError: for anything else.
    """
    if isinstance(given, Everything):
        return given
    scopes = () if given is None else (given,) if isinstance(given, Scope) else given
    if not isinstance(scopes, Iterable) or isinstance(scopes, str):
        raise ScopeError(f"what may be seen is {given!r}; expected EVERYTHING, a Scope or a list of these")
    scopes = tuple(scopes)
    if any(isinstance(scope, Everything) for scope in scopes):
        return EVERYTHING
    for scope in scopes:
        if not isinstance(scope, Scope):
            raise ScopeError(f"what may be seen holds {scope!r}; expected a Scope")
    return scopes


def _text(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None or isinstance(value, bool) else str(value)
    if not text.strip():
        raise ScopeError(f"the {name} of a scope is {value!r}; expected a text or number that is not empty")
    return text
