"""``livelog recover``: finish the logs of tasks whose workers are gone for good."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from celery_livelog.cli.output import Output
from celery_livelog.cli.session import read_settings, run
from celery_livelog.reader import Reader
from celery_livelog.recovery import Recovery
from celery_livelog.stores.stream import RENEW_SECONDS

#: Seconds between two looks that have to agree: a Redis that was away does not know yet who lives.
_BETWEEN_LOOKS = RENEW_SECONDS + 2


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.pass_obj
def recover(context: Any, task_ids: tuple[str, ...]) -> None:
    """Archive what is left of tasks whose workers are lost: of tasks ID, or of all recent ones.

    The next worker on the same host does that by itself, from its journals, and loses nothing. This is for hosts that
    do not come back: archive and stream have what was sent before.
    """
    output = Output(colour=not context.no_color)

    async def recovered(reader: Reader) -> int:
        recovery = Recovery(read_settings(context))
        if not await recovery.lost(reader, task_ids):
            output.note("nothing to recover: no running task is on a worker that is lost")
            return 0
        output.note(f"looking again in {_BETWEEN_LOOKS:.0f} s, whether their workers have come back")
        await asyncio.sleep(_BETWEEN_LOOKS)
        for done in await recovery.recover_all(reader, task_ids):
            output.write(f"{done.task_id}: {done.lines} lines, {done.skipped} skipped, in {done.archive}\n")
        return 0

    run(context, recovered)
