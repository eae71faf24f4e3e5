"""Signed tokens for those who have no login: to view logs, and to write them from elsewhere. Pure: times are passed in.

Rules:
- what a token allows stands in it, and is taken from nowhere else; ids are compared as a whole;
- keys for viewing and for writing are derived apart, so that neither kind of token passes for the other;
- the first key signs, and all are accepted: a new one goes in front, and the old ones go when their tokens are over;
- there is one way to write a token: one with a character more, less or changed is none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from itsdangerous import BadData, Signer, encoding

from celery_livelog.errors import TokenError
from celery_livelog.permissions import Scope, ScopeError, Viewer

_VIEW, _WRITE = "livelog-view", "livelog-ingest"
#: Characters of the longest token; what is longer is not even looked at.
LONGEST = 4096
#: Characters of a key that nobody guesses.
_LONG = 32

NO_KEY = (
    "livelog_secret_key is not set (LIVELOG_SECRET_KEY where there is no app); expected a long random text, such as "
    "python -c 'import secrets; print(secrets.token_urlsafe(32))' prints"
)
SHORT_KEY = f"livelog_secret_key is shorter than {_LONG} characters; who has a token could guess it"


class _Claims(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What stands in a token. `aud` is its kind, `exp` its end in seconds since 1970."""

    aud: str
    exp: int
    task_id: str = ""
    run_id: str = ""
    #: Of a writer: the task ids that it may write, and what those begin with.
    ids: tuple[str, ...] = ()
    prefix: str = ""
    #: Whose these are.
    account: str = ""
    site: str = ""
    #: Of a writer that has the key itself: all tasks of all accounts.
    everything: bool = False
    #: What the viewer or writer is called.
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Whoever sends records of tasks that run elsewhere, and which they may be."""

    name: str
    expires: float
    ids: frozenset[str] = frozenset()
    prefix: str = ""
    account: str = ""
    everything: bool = False

    def may_write(self, task_id: str, account: str = "") -> bool:
        """Whether a task is one of those; one of an account only with that account's token."""
        if self.everything:
            return True
        if account != self.account:
            return False
        if self.ids or self.prefix:
            return task_id in self.ids or bool(self.prefix and task_id.startswith(self.prefix))
        return bool(self.account)


class Tokens:
    """Makes tokens and tells what they allow.

    :param keys: the first signs, all are accepted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode("utf-8", "surrogatepass") for key in keys]
        #: Whether a key is so short that it could be found by trying.
        self.weak = any(len(key) < _LONG for key in keys)

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._keys)

    def view(
        self, *, task_id: str = "", run_id: str = "", account: str = "", site: str = "", expires: float, name: str = ""
    ) -> str:
        """A token that shows exactly one task, or one run with its tasks.

        :param account: with which the task or run was begun. A run without is one that was begun without.
        :param site: likewise.
        :param expires: seconds since 1970.
        :raises TokenError: without a key, when not exactly one of both ids is given, or when they are too long.
        """
        if bool(task_id) == bool(run_id):
            raise TokenError("expected the id of a task or that of a run, and not both")
        of_what = {"task_id": task_id, "run_id": run_id, "account": account, "site": site}
        claims = msgspec.convert({"aud": _VIEW, "exp": int(expires), "name": name, **of_what}, _Claims)
        try:
            _scope(claims)
        except ScopeError as error:
            raise TokenError(str(error)) from None
        return self._sign(claims)

    def write(
        self,
        *,
        ids: Sequence[str] = (),
        prefix: str = "",
        account: str = "",
        everything: bool = False,
        expires: float,
        name: str = "",
    ) -> str:
        """A token that lets a worker elsewhere write the logs of these tasks.

        :param ids: exactly these. :param prefix: those that begin so. :param account: those of this account; with ids
            or a prefix, both must hold.
        :param everything: all tasks of all accounts, for who has the key anyway.
        :param expires: seconds since 1970.
        :raises TokenError: without a key, when nothing says which tasks, or when that is too long.
        """
        if not (ids or prefix or account or everything) or not all(ids):
            raise TokenError("expected the ids of tasks, what they begin with, or their account")
        which = {"ids": tuple(ids), "prefix": prefix, "account": account, "everything": everything}
        return self._sign(msgspec.convert({"aud": _WRITE, "exp": int(expires), "name": name, **which}, _Claims))

    def viewer(self, token: str, now: float) -> Viewer:
        """Who has a token for viewing.

        :param now: seconds since 1970.
        :raises TokenError: when it is forged, over, of another kind or not one of ours.
        """
        claims = self._claims(token, _VIEW, now)
        return Viewer(via="token", name=claims.name, seen=(_scope(claims),), expires=float(claims.exp))

    def writer(self, token: str, now: float) -> Writer:
        """Who has a token for writing; raises as `viewer` does."""
        claims = self._claims(token, _WRITE, now)
        return Writer(
            name=claims.name,
            expires=float(claims.exp),
            ids=frozenset(claims.ids),
            prefix=claims.prefix,
            account=claims.account,
            everything=claims.everything,
        )

    def _sign(self, claims: _Claims) -> str:
        if not self._keys:
            raise TokenError(NO_KEY)
        # Not msgspec's JSON: an id may hold half a surrogate pair, which only escapes can tell.
        said = json.dumps(msgspec.to_builtins(claims), separators=(",", ":"))
        token = _signed(self._keys[0], claims.aud, encoding.base64_encode(said))
        if len(token) > LONGEST:
            raise TokenError(f"what the token is for makes it {len(token)} characters long; expected {LONGEST} at most")
        return token.decode()

    def _claims(self, token: str, aud: str, now: float) -> _Claims:
        given = token.encode("utf-8", "replace")
        payload = given.rpartition(b".")[0]
        # Whole tokens are compared: as base64, several texts would stand for one signature.
        genuine = (hmac.compare_digest(_signed(key, aud, payload), given) for key in self._keys)
        if len(given) > LONGEST or not any(genuine):
            raise TokenError("the token is not valid")
        claims = _read(payload)
        if claims.aud != aud:
            raise TokenError("the token is not valid")
        if now >= claims.exp:
            raise TokenError("the token has expired")
        return claims


def _scope(claims: _Claims) -> Scope:
    """What a viewer sees."""
    conditions = {name: getattr(claims, name) for name in ("task_id", "run_id", "account", "site")}
    return Scope(**{name: value for name, value in conditions.items() if value})


def _signed(key: bytes, aud: str, payload: bytes) -> bytes:
    return Signer(key, salt=aud.encode(), key_derivation="hmac", digest_method=hashlib.sha256).sign(payload)


def _read(payload: bytes) -> _Claims:
    """What a token says that was signed with one of our keys; perhaps by another version."""
    try:
        return msgspec.convert(json.loads(encoding.base64_decode(payload)), _Claims)
    except (BadData, ValueError, msgspec.ValidationError):
        raise TokenError("the token is not valid") from None
