"""How tasks write to stdout, and what they do to it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

from tests.faults.kinds.kind import Faulty, Shouting, kind, tried


@kind()
def writes() -> list[Any]:
    out = sys.stdout
    return [
        tried(lambda: out.write("a line\n")),
        tried(lambda: out.write("half")),
        tried(lambda: out.write("")),
        tried(lambda: out.write("\n")),
        tried(lambda: out.write(Shouting("shouted\n"))),
        tried(lambda: out.write("a\r\nb\rc\n")),
        tried(lambda: out.write("NUL \0 and bell \a\n")),
        tried(lambda: out.writelines(["one\n", "two\n"])),
        tried(lambda: out.flush()),
        tried(lambda: print("parts", 1, None, sep="-", end="!\n", file=sys.stderr, flush=True)),
        tried(lambda: print(Shouting("printed"))),
        tried(lambda: print(Faulty())),
        tried(lambda: print()),
        tried(lambda: print("€ ☃ 𝄞")),
        tried(lambda: out.writelines(["good\n", 5])),
    ]


@kind()
def writes_no_text() -> list[Any]:
    return [tried(lambda value=value: sys.stdout.write(value)) for value in (b"bytes\n", 5, None)]


@kind()
def writes_surrogates() -> list[Any]:
    return [
        tried(lambda: print("a file's name: caf\udce9")),
        tried(lambda: print("half of a pair: \ud83d")),
        tried(lambda: print("as before")),
    ]


@kind()
def writes_much() -> list[Any]:
    line = "x" * (16 << 20)
    with contextlib.redirect_stderr(io.StringIO()):
        return [tried(lambda: print(line)), tried(lambda: sys.stdout.write("\n" * 1000))]


@kind()
def redirects() -> list[Any]:
    text = io.StringIO()
    before = sys.stdout
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        print("kept")
        print("kept too", file=sys.stderr)
    print("shown")
    sys.stdout = text
    print("kept")
    sys.stdout = before
    return [text.getvalue(), sys.stdout is before]


@kind(rough=True)
def replaces_stdout() -> str:
    """And does not put it back."""
    sys.stdout = io.StringIO()
    print("kept")
    return sys.stdout.getvalue()


@kind(rough=True)
def deletes_stdout() -> Any:
    del sys.stdout
    return tried(lambda: print("nowhere"))


@kind(rough=True)
def stdout_is_none() -> Any:
    sys.stdout = None  # type: ignore[assignment]
    return tried(lambda: print("nowhere"))


@kind(rough=True)
def closes_stdout() -> list[Any]:
    return [
        tried(lambda: sys.stdout.close()),
        sys.stdout.closed,
        tried(lambda: print("into a closed stream")),
        tried(lambda: sys.stdout.flush()),
        tried(lambda: sys.stdout.close()),
        tried(lambda: print("stderr is open", file=sys.stderr)),
    ]


@kind(rough=True)
def uses_stdout_up() -> list[Any]:
    def use() -> None:
        with sys.stdout as stream:
            stream.flush()

    return [tried(use)]


@kind(rough=True)
def detaches_stdout() -> list[Any]:
    """As scripts do for an encoding of their own."""
    stream = tried(lambda: io.TextIOWrapper(sys.stdout.detach(), encoding="latin-1", errors="replace"))
    return [stream]


@kind(rough=True)
def reconfigures_stdout() -> list[Any]:
    return [
        tried(lambda: sys.stdout.reconfigure(errors="replace", line_buffering=True)),
        tried(lambda: sys.stdout.errors),
        tried(lambda: print("caf\udce9")),
    ]


@kind()
def plays_with_descriptors() -> list[Any]:
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    seen = [os.write(1, b"swallowed\n")]
    os.dup2(2, 1)
    seen.append(os.write(1, b"by the other\n"))
    os.dup2(saved, 1)
    seen.append(os.write(1, b"shown again\n"))
    os.close(saved)
    os.close(null)
    return seen


@kind()
def asks() -> Any:
    return tried(lambda: input("a question? "))
