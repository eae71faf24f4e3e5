"""A site, carried by Tornado: a server that knows no more than how to listen, to answer, and to leave."""

from __future__ import annotations

import asyncio
import re
import ssl

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from celery_livelog.errors import LivelogError
from celery_livelog.web.api import Answering
from celery_livelog.web.gate import subprotocol_of
from celery_livelog.web.request import Request
from celery_livelog.web.sessions import Session
from celery_livelog.web.site import Site
from celery_livelog.web.socket import SessionSocket

#: Connections that may wait to be accepted: after a restart all viewers come back at once.
_BACKLOG = 1024
#: Seconds that a request may take to come in, and bytes that it may have. Nobody has to send much here.
_REQUEST_SECONDS = 10.0
_HEADER_BYTES, _BODY_BYTES = 32 * 1024, 64 * 1024
#: Seconds that viewers get to take their leave.
_LEAVE_SECONDS = 2.0
_GOING_AWAY = 1001


class ListenError(LivelogError):
    """Raised when an address or a port cannot be had."""


class Server:
    """A site, carried by Tornado."""

    def __init__(self, site: Site, root: str) -> None:
        self.site = site
        self.root = root
        self.sockets: set[_Socket] = set()
        handlers: list[tuple[str, type[RequestHandler]]] = [(re.escape(root + path), _Socket) for path in site.sockets]
        handlers.append((".*", _Http))
        # Nothing is said of single requests: others decide how many there are, and what stands in them.
        self._app = Application(handlers, log_function=lambda handler: None, livelog_server=self)
        self._server: HTTPServer | None = None

    def listen(self, address: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Open a port, 0 for any; give which one it is.

        :raises ListenError: when it cannot be had.
        """
        try:
            sockets = bind_sockets(port, address, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or error
            raise ListenError(f"cannot listen on {address or '*'}:{port}: {said}") from error
        self._server = HTTPServer(
            self._app,
            ssl_options=tls,
            idle_connection_timeout=_REQUEST_SECONDS,
            body_timeout=_REQUEST_SECONDS,
            max_header_size=_HEADER_BYTES,
            max_body_size=_BODY_BYTES,
            max_buffer_size=2 << 20,
        )
        self._server.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take no more, and let those who are there go."""
        assert self._server is not None
        self._server.stop()
        for socket in [*self.sockets]:
            socket.close(_GOING_AWAY, "the server goes away")
        gone = [asyncio.ensure_future(socket.gone.wait()) for socket in self.sockets]
        if gone:
            _, waiting = await asyncio.wait(gone, timeout=_LEAVE_SECONDS)
            for task in waiting:
                task.cancel()
        try:
            await asyncio.wait_for(self._server.close_all_connections(), _LEAVE_SECONDS)
        except asyncio.TimeoutError:
            pass

    def request(self, request: HTTPServerRequest, *, socket: bool = False) -> Request | None:
        """What Tornado has taken, as the site wants it; None for what is not below the root."""
        path = request.path
        if self.root and path != self.root and not path.startswith(f"{self.root}/"):
            return None
        return Request(
            method=request.method or "",
            path=path[len(self.root) :] or "/",
            root=self.root,
            query=request.query,
            headers={name.lower(): value for name, value in request.headers.items()},
            address=request.remote_ip or "",
            scheme=request.protocol,
            socket=socket,
        )


class _Http(Answering):
    """All requests but those of WebSockets."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def compute_etag(self) -> str | None:
        return None  # what has one brings it along

    async def get(self) -> None:
        server: Server = self.settings["livelog_server"]
        request = server.request(self.request)
        if request is None:
            self.set_status(404)
            await self.finish({"error": "not found"})
            return
        await self.while_connected(self._serve(server.site, request))

    head = post = delete = patch = put = options = get

    async def _serve(self, site: Site, request: Request) -> None:
        async with site.answering(request) as answer:
            await self.write_answer(answer)


class _Socket(SessionSocket):
    """A WebSocket."""

    def initialize(self) -> None:
        self._server: Server = self.settings["livelog_server"]
        super().initialize()

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def check_origin(self, origin: str) -> bool:
        return True  # the gate refuses after the connection was accepted, so that browsers learn why

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        request = self._server.request(self.request)
        return None if request is None else subprotocol_of(request)

    async def session(self) -> Session:
        request = self._server.request(self.request, socket=True)
        assert request is not None
        self._server.sockets.add(self)
        return await self._server.site.session(request, self.deliver, self.close)

    def on_close(self) -> None:
        self._server.sockets.discard(self)
        super().on_close()
