"""Attempts whose own process no longer speaks for them: waits for who knows more, then says how they ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

from celery_livelog.endings import ABORTED, Ending, Word, merged, of_exit, of_signal, of_silence
from celery_livelog.records import Record, utc
from celery_livelog.shipper.attempt import AttemptLog

#: Seconds that the main process has to say why it ended a task, after the task's process has said that it was ended.
_WHY_SECONDS = 1.0
#: The same after the process is known to be gone: who kills on purpose says so before.
_KILLED_SECONDS = 0.5
#: Seconds after which nobody will say how a process ended. Celery looks after its pool every 5 s.
_SILENT_SECONDS = 6.5
#: Words that are remembered. They come in minutes before or seconds after the end that they explain, or are of no use.
_REMEMBERED = 20_000


@dataclass
class _Waiting:
    """An attempt without an end. `said` is what its own process could say, `time` when, in ns."""

    log: AttemptLog
    said: Ending | None
    time: int
    memory: int
    until: float
    told: bool = False


class Closing:
    """The attempts that wait for their end."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._words: OrderedDict[tuple[str, int], list[tuple[str, Word]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def hear(self, word: Word, time: int) -> None:
        """Take what a main process says, at a time in ns."""
        words = self._words.setdefault((word.task_id, word.pid), [])
        words.append((utc(time), word))
        self._words.move_to_end((word.task_id, word.pid))
        while len(self._words) > _REMEMBERED:
            self._words.popitem(last=False)

    def aborted(self, log: AttemptLog, said: Ending, time: int) -> None:
        """The attempt's process was told to end, and has said so."""
        self._waiting.append(_Waiting(log, said, time, 0, monotonic() + _WHY_SECONDS))

    def gone(self, log: AttemptLog, time: int, memory: int) -> None:
        """The attempt's process is gone without a word; it had so many bytes of memory when last seen."""
        self._waiting.append(_Waiting(log, None, time, memory, monotonic() + _SILENT_SECONDS))

    def due(self, *, worker_gone: bool) -> Iterator[tuple[AttemptLog, list[Record]]]:
        """End what can be ended now; all of it when nobody is left who could say more."""
        for waiting in list(self._waiting):
            ending = self._ending(waiting, worker_gone=worker_gone)
            if ending is not None:
                self._waiting.remove(waiting)
                yield waiting.log, waiting.log.end(ending, waiting.time)

    def _ending(self, waiting: _Waiting, *, worker_gone: bool) -> Ending | None:
        attempt = waiting.log.attempt
        said = self._first(attempt.task_id, 0, attempt.started)
        exit_word = self._first("", attempt.pid, attempt.started)
        if said is not None and said.ending is not None:
            return merged(waiting.said or _of_signal(exit_word), said.ending)
        known = exit_word or said
        if waiting.said is None and known is not None and not waiting.told:
            waiting.told, waiting.until = True, min(waiting.until, monotonic() + _KILLED_SECONDS)
        if not worker_gone and monotonic() < waiting.until:
            return None
        if waiting.said is not None:
            return waiting.said
        if known is None:
            return of_silence(attempt.pid, worker_gone=worker_gone)
        return of_exit(known.signal, known.status, waiting.memory, requeued=waiting.log.requeued)

    def _first(self, task_id: str, pid: int, since: str) -> Word | None:
        """The first that was said of a task or process since a time; why it was ended counts before that it has."""
        words = [word for time, word in self._words.get((task_id, pid), ()) if time >= since]
        reasons = [word for word in words if word.ending is not None]
        return next(iter(reasons or words), None)


def _of_signal(word: Word | None) -> Ending | None:
    return of_signal(word.signal, ABORTED, "killed by") if word is not None and word.signal else None
