"""The relay: a small server for logs of its own, for those who run no Flower or want a log on their own pages.

It only carries: `web.site` tells who may ask and what is answered.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery_livelog.access.tokens import SHORT_KEY, Tokens
from celery_livelog.errors import SettingsError
from celery_livelog.ingest import Ingest
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings
from celery_livelog.web.gate import Gate
from celery_livelog.web.gate_addresses import Networks, Proxies, is_loopback
from celery_livelog.web.gate_caps import Limits
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.gate_strangers import Strangers, nobody, visitors
from celery_livelog.web.metrics import Metrics
from celery_livelog.web.pauses import avoid_pauses
from celery_livelog.web.server import Server
from celery_livelog.web.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a relay is started; `docs/relay.md` says what each means."""

    address: str = "127.0.0.1"
    port: int = 5556
    url_prefix: str = ""
    anonymous: bool = False
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    limits: Limits = Limits()
    certfile: str | None = None
    keyfile: str | None = None

    @property
    def root(self) -> str:
        """What all paths are below."""
        prefix = self.url_prefix.strip("/")
        return f"/{prefix}" if prefix else ""


def gate_of(settings: Settings, options: Options) -> tuple[Gate, str]:
    """The gate of a relay, and in words whom it lets in.

    :raises SettingsError: when it would show everything to everybody.
    """
    origins = Origins(options.origins)
    tokens, ruled = Tokens(settings.secret_key), settings.permission is not None
    strangers: Strangers = nobody
    if options.anonymous and not ruled:
        raise SettingsError("--anonymous needs livelog_permission, the rule that says what they may see")
    if tokens and not options.anonymous:
        told = "whoever has a token sees what that is for"
    elif ruled:
        strangers = visitors("relay", origins, ruled=True)
        told = "livelog_permission says who sees what"
    elif is_loopback(options.address):
        strangers = visitors("relay", origins, ruled=False)
        told = "everyone on this machine sees everything"
    else:
        raise SettingsError(
            f"the relay would show all logs to everyone who can reach {options.address or 'it'}: set "
            "livelog_secret_key (then they need tokens) or livelog_permission (a rule of your own), or use "
            "--address=127.0.0.1"
        )
    return Gate(tokens=tokens, strangers=strangers, origins=origins, proxies=Proxies(options.proxies)), told


async def serve(settings: Settings, options: Options, say: Callable[[str], Any], app: Any = None) -> None:
    """Serve until SIGTERM or SIGINT.

    :param say: is told once where the relay listens, and who may see what.
    :param app: the Celery app, if there is one; see `Reader`.
    :raises LivelogError: when it cannot be started.
    """
    gate, told = gate_of(settings, options)
    may_measure = Networks(options.metrics)
    tls = _tls(options)
    reader = Reader(settings, app)
    writers = Ingest(settings) if settings.secret_key else None  # without a key nobody has a token to write
    try:
        await reader.recent(1)
        site = Site(settings, reader, gate, options.limits, writers)
        site.open["/metrics"] = Metrics(site.counts, may_measure).answer
        server = Server(site, options.root)
        port = server.listen(options.address, options.port, tls)
        stopped = _stop_on_signals()
        avoid_pauses()
        if gate.tokens.weak:
            say(SHORT_KEY)
        scheme = "https" if tls else "http"
        host = f"[{options.address}]" if ":" in options.address else options.address or "*"
        say(f"listening on {scheme}://{host}:{port}{options.root}/ - {told}")
        await stopped.wait()
        await server.close()
    finally:
        if writers is not None:
            await writers.close()
        await reader.close()


def _stop_on_signals() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def _tls(options: Options) -> ssl.SSLContext | None:
    if not (options.certfile or options.keyfile):
        return None
    if not options.certfile:
        raise SettingsError("--keyfile is given without --certfile; expected the certificate, too")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certfile, options.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the certificate cannot be used: {error}") from error
    return context
