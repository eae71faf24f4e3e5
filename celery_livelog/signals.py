"""Celery's signals, connected to what livelog does at each. The only module that knows them.

Every ``celery …`` command loads this file: it imports nothing that costs, and while ``livelog`` is off a process has
these receivers and nothing else, no thread, no file, no other process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import current_app, signals

from celery_livelog.report import hide_settings

if TYPE_CHECKING:
    from celery_livelog.executions import Executions

_executions: Executions | None = None


def connect() -> None:
    """Connect all receivers. Harmless when done twice."""
    hide_settings()
    for signal, receiver in _RECEIVERS.items():
        signal.connect(receiver, weak=False, dispatch_uid=_uid(receiver))


def connect_publishing() -> None:
    """Connect what takes runs along with the tasks that are sent within. Harmless when done twice."""
    signals.before_task_publish.connect(_before_task_publish, weak=False, dispatch_uid=_uid(_before_task_publish))


def disconnect() -> None:
    """Undo `connect`, and end what was started in this process."""
    global _executions
    for signal, receiver in _RECEIVERS.items():
        signal.disconnect(receiver, dispatch_uid=_uid(receiver))
    if _executions is not None:
        _executions.lifecycle.stop()
    _executions = None


def install(app: Any = None) -> None:
    """Turn livelog on for programs that do not start through the ``celery`` command.

    Needed for ``app.Worker()``, ``start_worker`` and eager tasks; harmless elsewhere and when done twice.

    :param app: the Celery app; when given, its ``livelog`` switch is turned on too.
    """
    if app is not None:
        app.conf.livelog = True
    connect()


def _of(app: Any) -> Executions | None:
    """What livelog keeps in this process, when it is on for `app`."""
    global _executions
    if app.conf.get("livelog", False) is False:
        return None
    if _executions is None:
        from celery_livelog.executions import Executions  # late: see the module's docstring
        from celery_livelog.lifecycle import Lifecycle

        _executions = Executions(Lifecycle())
    return _executions


def _before_task_publish(headers: dict[str, Any], **_: Any) -> None:
    """Wherever tasks are sent: the message names the run that the sending code belongs to."""
    from celery_livelog.run_context import take_along  # late: see the module's docstring

    take_along(headers)


def _worker_init(sender: Any, **_: Any) -> None:
    """Main process of a worker, before it forks."""
    executions = _of(sender.app)
    if executions is not None:
        executions.lifecycle.start_watch(sender.app)


def _worker_ready(sender: Any, **_: Any) -> None:
    """The main process has its pool."""
    if _executions is not None:
        _executions.lifecycle.watch_children(sender.pool)


def _worker_process_init(**_: Any) -> None:
    """A prefork child, or the main process of a solo worker: it runs one task at a time."""
    executions = _of(current_app)
    if executions is not None:
        executions.lifecycle.start_process(current_app)


def _task_prerun(task_id: str, task: Any, **_: Any) -> None:
    executions = _of(task.app)
    if executions is not None:
        executions.begin(task_id, task)


def _task_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """In the process that ran the task; in the main process, when that one was killed or had to be."""
    if _executions is not None:
        _executions.failed(sender, task_id, exception)


def _task_retry(request: Any, reason: Any = None, **_: Any) -> None:
    """In the process that ran the task; in the main process, without a reason, when it ends before the task does."""
    if _executions is not None:
        _executions.retried(request, reason)


def _task_revoked(sender: Any, request: Any, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:
    """In the main process: the task is killed, or will never begin."""
    if _executions is not None:
        _executions.revoked(sender, request, terminated=terminated, signum=signum, expired=expired)


def _task_postrun(task: Any, retval: Any = None, state: str | None = None, **_: Any) -> None:
    """`state` is None when something other than an exception of the task's own unwound it."""
    if _executions is not None:
        _executions.end(task, state, retval)


def _worker_process_shutdown(**_: Any) -> None:
    """A prefork child leaves."""
    if _executions is not None:
        _executions.lifecycle.stop_process()


def _worker_shutdown(**_: Any) -> None:
    """The main process leaves."""
    if _executions is not None:
        _executions.lifecycle.stop()


def _uid(receiver: Callable[..., None]) -> str:
    return f"celery-livelog{receiver.__name__}"


_RECEIVERS: dict[Any, Callable[..., None]] = {
    signals.before_task_publish: _before_task_publish,
    signals.worker_init: _worker_init,
    signals.worker_ready: _worker_ready,
    signals.worker_process_init: _worker_process_init,
    signals.task_prerun: _task_prerun,
    signals.task_failure: _task_failure,
    signals.task_retry: _task_retry,
    signals.task_revoked: _task_revoked,
    signals.task_postrun: _task_postrun,
    signals.worker_process_shutdown: _worker_process_shutdown,
    signals.worker_shutdown: _worker_shutdown,
}
