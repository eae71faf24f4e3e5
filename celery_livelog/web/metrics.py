"""``/metrics`` for Prometheus: what a server has counted, for those whose addresses were named."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from celery_livelog.web.answers import Whole
from celery_livelog.web.counts import Counts
from celery_livelog.web.gate_addresses import Networks
from celery_livelog.web.refusal import Refusal
from celery_livelog.web.request import Request

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Tells what was counted.

    :param allowed: who may ask; for all others this does not exist.
    """

    def __init__(self, counts: Counts, allowed: Networks) -> None:
        self._counts = counts
        self._allowed = allowed
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def answer(self, request: Request) -> Whole:
        """All of it.

        :raises Refusal: for those who may not ask.
        """
        if request.address not in self._allowed:
            raise Refusal(404, "not found")
        return Whole(_CONTENT_TYPE, generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' library asks for."""
        counts = self._counts
        sockets = GaugeMetricFamily("livelog_sockets", "WebSockets that are open, by kind.", labels=["kind"])
        opened = CounterMetricFamily("livelog_sockets_opened", "WebSockets that were opened, by kind.", labels=["kind"])
        for kind, count in counts.opened.items():
            opened.add_metric([kind], count)
            sockets.add_metric([kind], counts.sockets[kind])
        answers = CounterMetricFamily("livelog_answers", "Answers to requests, by status.", labels=["status"])
        for status, count in counts.answers.items():
            answers.add_metric([str(status)], count)
        refusals = CounterMetricFamily("livelog_refusals", "Refused requests and sockets, by why.", labels=["reason"])
        for reason, count in counts.refusals.items():
            refusals.add_metric([reason], count)
        yield from (sockets, opened, answers, refusals)
        yield CounterMetricFamily("livelog_messages_sent", "Messages over WebSockets.", counts.messages)
        yield CounterMetricFamily("livelog_bytes_sent", "Bytes over WebSockets.", counts.bytes)
