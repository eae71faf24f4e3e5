"""Who writes over a connection: by the token with which it was made, or one that a message brings."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery_livelog.access.tokens import Writer
from celery_livelog.errors import TokenError
from celery_livelog.ingest import writers
from celery_livelog.ingest.over import unauthorized


class Bearer:
    """The writer, as far as it is known.

    :param authenticate: tells the writer of a token, or raises `TokenError`; None where tokens are not looked at.
    """

    def __init__(self, writer: Writer | None, authenticate: Callable[[str], Writer] | None) -> None:
        self._writer = writer
        self._authenticate = authenticate

    @property
    def known(self) -> bool:
        """Whether it has said who it is."""
        return self._writer is not None

    @property
    def writer(self) -> Writer:
        """Who it is.

        :raises Over: when that is nobody, or nobody any more.
        """
        if self._writer is None:
            raise unauthorized("expected a token, as bearer or in a hello")
        if time.time() >= self._writer.expires:
            raise unauthorized("the token has expired")
        return self._writer

    def last(self) -> Writer:
        """Who it was when it last spoke: what it has asked for then is done."""
        assert self._writer is not None
        return self._writer

    def show(self, token: str) -> None:
        """Take a token; a new one may take the place of another of the same writer.

        :raises Over: when it is not valid, or another writer's.
        """
        if self._authenticate is None:
            return
        try:
            writer = self._authenticate(token)
        except TokenError as error:
            raise unauthorized(str(error)) from None
        if self._writer is not None and writers.identity(writer) != writers.identity(self._writer):
            raise unauthorized("the token is another writer's: connect anew with it")
        self._writer = writer
