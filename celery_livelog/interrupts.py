"""Tells what is raised into our code from outside, such as a time limit, from what our code itself runs into."""

from __future__ import annotations


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal handler has raised this while our code ran: then it is the task's, and goes on its way.

    A handler is given the frame that it interrupts, which is the one before it in the traceback. Asked only of what has
    been raised, so it costs nothing else.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        given = list(trace.tb_next.tb_frame.f_locals.values())
        for value in given:
            if value is trace.tb_frame or (type(value) is tuple and trace.tb_frame in value):
                return True
        trace = trace.tb_next
    return isinstance(error, OSError) and error.errno is None  # a system call's has a number; this was sent to a thread
