"""Signed tokens for those who have no login: to view logs, and to write them from elsewhere. Pure: times are passed in.

Rules:
- what a token allows stands in it, and is taken from nowhere else; ids are compared as a whole;
- keys for viewing and for writing are derived apart, so that neither kind of token passes for the other;
- the first key signs, and all are accepted: a new one goes in front, and the old ones go when their tokens are over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from itsdangerous import BadSignature, Signer, encoding

from celery_livelog.errors import TokenError
from celery_livelog.permissions import Scope, Viewer

_VIEW, _WRITE = "livelog-view", "livelog-ingest"
#: Characters of the longest token; what is longer is not even looked at.
LONGEST = 4096


class _Claims(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What stands in a token. `aud` is its kind, `exp` its end in seconds since 1970."""

    aud: str
    exp: int
    task_id: str = ""
    run_id: str = ""
    #: Of a writer: the task ids that it may write, what those begin with, and whose they are.
    ids: tuple[str, ...] = ()
    prefix: str = ""
    account: str = ""
    #: What the writer is called.
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Whoever sends records of tasks that run elsewhere, and which they may be."""

    name: str
    expires: float
    ids: frozenset[str] = frozenset()
    prefix: str = ""
    account: str = ""

    def may_write(self, task_id: str, account: str = "") -> bool:
        """Whether a task is one of those; one of an account only with that account's token."""
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
        self._keys = [key.encode("utf-8", "surrogatepass") for key in reversed(keys)]  # Signer signs with the last

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._keys)

    def view(self, *, task_id: str = "", run_id: str = "", expires: float, name: str = "") -> str:
        """A token that shows exactly one task, or one run with its tasks.

        :param expires: seconds since 1970.
        :raises TokenError: without a key, or when not exactly one of both ids is given.
        """
        if bool(task_id) == bool(run_id):
            raise TokenError("expected the id of a task or that of a run, and not both")
        return self._sign(_Claims(aud=_VIEW, exp=int(expires), task_id=task_id, run_id=run_id, name=name))

    def write(
        self, *, ids: Sequence[str] = (), prefix: str = "", account: str = "", expires: float, name: str = ""
    ) -> str:
        """A token that lets a worker elsewhere write the logs of these tasks.

        :param ids: exactly these. :param prefix: those that begin so. :param account: those of this account; with ids
            or a prefix, both must hold.
        :param expires: seconds since 1970.
        :raises TokenError: without a key, or when nothing says which tasks.
        """
        if not (any(ids) or prefix or account):
            raise TokenError("expected the ids of tasks, what they begin with, or their account")
        claims = _Claims(aud=_WRITE, exp=int(expires), ids=tuple(ids), prefix=prefix, account=account, name=name)
        return self._sign(claims)

    def viewer(self, token: str, now: float) -> Viewer:
        """Who has a token for viewing.

        :param now: seconds since 1970.
        :raises TokenError: when it is forged, over, of another kind or not one of ours.
        """
        claims = self._claims(token, _VIEW, now)
        scope = Scope(task_id=claims.task_id) if claims.task_id else Scope(run_id=claims.run_id)
        return Viewer(via="token", name=claims.name, seen=(scope,), expires=float(claims.exp))

    def writer(self, token: str, now: float) -> Writer:
        """Who has a token for writing; raises as `viewer` does."""
        claims = self._claims(token, _WRITE, now)
        return Writer(
            name=claims.name,
            expires=float(claims.exp),
            ids=frozenset(claims.ids),
            prefix=claims.prefix,
            account=claims.account,
        )

    def _sign(self, claims: _Claims) -> str:
        if not self._keys:
            raise TokenError("livelog_secret_key is not set; expected a long random text to sign tokens with")
        return self._signer(claims.aud).sign(encoding.base64_encode(msgspec.json.encode(claims))).decode()

    def _claims(self, token: str, aud: str, now: float) -> _Claims:
        if not self._keys or len(token) > LONGEST:
            raise TokenError("the token is not valid")
        try:
            payload = self._signer(aud).unsign(token)
            claims = msgspec.json.decode(encoding.base64_decode(payload), type=_Claims)
        except (BadSignature, msgspec.MsgspecError, ValueError):
            raise TokenError("the token is not valid") from None
        if claims.aud != aud:
            raise TokenError("the token is not valid")
        if now >= claims.exp:
            raise TokenError("the token has expired")
        return claims

    def _signer(self, aud: str) -> Signer:
        return Signer(self._keys, salt=aud.encode(), key_derivation="hmac", digest_method=hashlib.sha256)
