"""One viewer's session: messages in, a log's records out. Knows no transport; it is given how to send and to close.

Rules:
- nothing is shown before it is known who asks, and nothing that `door` does not give to that viewer;
- a task that is not there and one that may not be seen are the same: the session waits for its start;
- who says nothing, takes nothing, says too much or what cannot be understood is let go, and told why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from celery_livelog.cancel import cancel
from celery_livelog.errors import AccessError, LivelogError, TokenError, complain
from celery_livelog.permissions import Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.viewer.allowance import Allowance
from celery_livelog.viewer.flow import Flow, Gone
from celery_livelog.viewer.messages import HEARTBEAT, HELLO, Command, MessageError, error, parse
from celery_livelog.viewer.reading import Subscription
from celery_livelog.viewer.voice import Voice

#: What a connection is closed with; see ``docs/protocol.md``.
OVER, UNAVAILABLE = 1000, 1011
BAD_MESSAGE, UNAUTHORIZED, TIMED_OUT, TOO_MANY = 4400, 4401, 4408, 4429

_HEARTBEAT_SECONDS = 15.0
#: Seconds that a viewer has to say who it is.
_UNKNOWN_SECONDS = 10.0
#: Seconds after which one that takes nothing of what is there for it counts as gone.
_STALLED_SECONDS = 60.0
#: Seconds after which one that takes nothing, or is paused, is left without what it reads from.
_SLOW_SECONDS = 5.0
#: Messages that a viewer may send at once, and a second; beside these one for each that it gets.
_MESSAGES, _MESSAGES_A_SECOND = 100, 20
#: Messages that cannot be understood, of one that is known; of others, not one.
_MISTAKES = 10
#: Seconds that the last message before a close may take.
_FAREWELL_SECONDS = 1.0


class ViewerSession:
    """A session. `start` it, pass it what the viewer sends, `stop` it when the viewer is gone.

    :param reader: of all logs; the session itself asks `door` for what the viewer may see.
    :param send: sends a message; its completion is the transport's backpressure.
    :param close: closes the connection with a WebSocket code and a reason.
    :param viewer: who it is; None when that is not known yet.
    :param authenticate: whose a token is; raises `TokenError`. None where tokens are not looked at.
    """

    def __init__(
        self,
        reader: Reader,
        send: Callable[[bytes], Awaitable[Any]],
        close: Callable[[int, str], None],
        *,
        viewer: Viewer | None,
        authenticate: Callable[[str], Viewer] | None = None,
    ) -> None:
        self._reader = reader
        self._send = send
        self._close = close
        self._viewer = viewer
        self._authenticate = authenticate
        self._flow = Flow(self._deliver)
        self._allowance = Allowance(_MESSAGES, _MESSAGES_A_SECOND, time.monotonic())
        self._mistakes = 0
        self._over = False
        self._subscription: Subscription | None = None
        self._log: asyncio.Task[None] | None = None
        self._voice = Voice(send)
        self._unknown_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Greet the viewer and keep an eye on the connection."""
        self._voice.say(HELLO)
        self._unknown_until = time.monotonic() + _UNKNOWN_SECONDS
        self._look_later()

    def receive(self, message: str | bytes) -> None:
        """Do what the viewer asks."""
        if self._over:
            return
        if not self._allowance.take(time.monotonic()):
            self._end(TOO_MANY, "too_many", f"expected at most {_MESSAGES_A_SECOND} messages a second")
            return
        try:
            self._obey(parse(message))
        except MessageError as mistake:
            self._mistakes += 1
            if self._viewer is None or self._mistakes > _MISTAKES:
                self._end(BAD_MESSAGE, mistake.code, str(mistake))
            else:
                self._voice.say(error(mistake.code, str(mistake)))

    async def stop(self) -> None:
        """End everything that the session does."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        await self._voice.stop()
        if self._log is not None:
            await cancel(self._log)

    def _obey(self, command: Command) -> None:
        if command.type == "subscribe":
            self._subscribe(command)
        elif command.type == "ack":
            self._flow.acknowledge(command.attempt, command.n)
        elif command.type == "pause":
            self._flow.pause()
        else:
            self._flow.resume()

    def _subscribe(self, command: Command) -> None:
        if command.token is not None and self._authenticate is not None:
            self._viewer = self._holder(command.token)
        if self._viewer is None:
            self._end(UNAUTHORIZED, "unauthorized", "expected a token that is valid")
            return
        self._look_later()  # it may end sooner than the one before
        self._flow.restart()
        self._subscription = Subscription(reader_for(self._reader, self._viewer), command, self._flow)
        self._log = asyncio.create_task(self._serve(self._log, self._subscription))

    def _holder(self, token: str) -> Viewer | None:
        """Who has a token; nobody when it is not valid, or when that cannot be told."""
        assert self._authenticate is not None
        try:
            return self._authenticate(token)
        except TokenError:
            return None
        except Exception as failure:  # noqa: BLE001 - fails closed
            complain("a token could not be read", failure)
            return None

    async def _serve(self, before: asyncio.Task[None] | None, subscription: Subscription) -> None:
        if before is not None:
            await cancel(before)
        try:
            await subscription.run()
        except (TokenError, AccessError) as ended:
            self._end(UNAUTHORIZED, "unauthorized", str(ended))
            return
        except Gone:
            return
        except Exception as failure:  # noqa: BLE001 - or the viewer would wait for ever
            if not isinstance(failure, LivelogError):
                complain("a viewer's log could not be read", failure)
            sentence = str(failure) if isinstance(failure, LivelogError) else "the log could not be read"
            self._end(UNAVAILABLE, "unavailable", sentence)
            return
        self._over = True
        self._close(OVER, "")

    async def _deliver(self, data: bytes) -> None:
        await self._send(data)
        self._allowance.give()

    def _look_later(self) -> None:
        """Look again when the next thing is due."""
        if self._timer is not None:
            self._timer.cancel()
        wait = _HEARTBEAT_SECONDS
        if self._viewer is None:
            wait = min(wait, self._unknown_until - time.monotonic())
        elif self._viewer.expires is not None:
            wait = min(wait, self._viewer.expires - time.time())
        self._timer = asyncio.get_running_loop().call_later(max(wait, 0.0), self._look)

    def _look(self) -> None:
        """See whether the viewer may stay, and say that the server is there."""
        if self._over:
            return
        if self._viewer is None and time.monotonic() >= self._unknown_until:
            self._end(UNAUTHORIZED, "unauthorized", f"expected a token within {_UNKNOWN_SECONDS:.0f} s")
        elif self._viewer is not None and self._viewer.expires is not None and time.time() >= self._viewer.expires:
            self._end(UNAUTHORIZED, "unauthorized", "the token has expired")
        elif self._flow.stalled(asyncio.get_running_loop().time()) > _STALLED_SECONDS:
            self._end(TIMED_OUT, "timed_out", f"nothing was taken for {_STALLED_SECONDS:.0f} s")
        else:
            if self._subscription is not None and self._flow.waits(asyncio.get_running_loop().time()) > _SLOW_SECONDS:
                self._subscription.release()
            if not self._flow.sending:
                self._voice.say(HEARTBEAT)
            self._look_later()

    def _end(self, code: int, name: str, sentence: str) -> None:
        """Let the viewer go: no more records, a last message that says why, and a close that does not wait for it."""
        self._over = True
        if self._log is not None:
            self._log.cancel()

        async def leave() -> None:
            telling = asyncio.ensure_future(self._send(error(name, sentence)))
            await asyncio.wait({telling}, timeout=_FAREWELL_SECONDS)
            self._close(code, name)
            await cancel(telling)

        self._voice.begin(leave())
