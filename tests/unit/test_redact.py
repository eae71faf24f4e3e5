"""Secrets in text: every encoding in which programs print them, wherever a write, a piece or a cut divides them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_livelog.encodings import forms
from celery_livelog.literals import Literals
from celery_livelog.redact import Redactor, compiled

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
#: What is hard: quotes, escapes, what URLs quote, several bytes a character, what base64 spells in two ways.
SECRET = st.text(st.sampled_from("ab1 '\"\\/+%&=?é€😀\t*~þÿ"), min_size=6, max_size=24).filter(
    lambda s: len(s.strip()) > 5
)
#: Few letters, so that secrets overlap, repeat and contain each other.
DENSE = st.text(st.sampled_from("ab*"), min_size=6, max_size=9)

ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda secret: secret,
    "json": json.dumps,
    "json as UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False),
    "repr": repr,
    "repr in a list": lambda secret: repr([secret]),
    "repr among quotes": lambda secret: repr("'\"" + secret),
    "repr of bytes": lambda secret: repr(secret.encode()),
    "ascii": ascii,
    "path of a URL": quote,
    "component of a URL": lambda secret: quote(secret, safe=""),
    "form of a URL": quote_plus,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(secret=SECRET)
def test_every_encoding_is_found(encoding: str, secret: str) -> None:
    """What a program prints of a secret, escaped and quoted as it likes, is hidden as a whole."""
    secret = secret.strip()
    printed = ENCODINGS[encoding](secret)
    found = Redactor([secret])(f"<{printed}>")
    assert "***" in found
    assert len(found) <= len("<['***\"']>") + 4
    assert secret not in found


@given(SECRET, st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_base64_is_found_wherever_it_begins(secret: str, before: bytes, after: bytes, urlsafe: bool) -> None:
    """A secret in the middle of what is encoded, such as ``user:password``, is found at each of the three shifts."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    raw = secret.strip().encode()
    printed = encode(before + raw + after).decode()
    found = Redactor([secret])(printed)
    kept = len(printed) - len(found.replace("***", ""))
    assert "***" in found
    assert kept * 6 >= len(raw) * 8 - 20  # all but the bits that it shares with its neighbours


@given(st.lists(SECRET | DENSE, max_size=5), st.lists(SECRET | DENSE | ANY_TEXT, max_size=6).map("".join))
def test_no_secret_is_left(secrets: list[str], text: str) -> None:
    """Whatever secrets there are, and however they stand together, none of them is in what comes out."""
    text += "".join(secrets)
    found = Redactor(secrets)(text)
    assert not any(form in found for secret in secrets for form in forms(secret))


@given(st.lists(DENSE | SECRET, max_size=4), st.lists(DENSE | ANY_TEXT, max_size=6).map("".join))
@example(["******"], "******")
def test_what_was_redacted_stays_as_it_is(secrets: list[str], text: str) -> None:
    """A second time changes nothing: two shippers that redact one after the other leave the same text."""
    redact = Redactor(secrets, [r"tok\w+"])
    once = redact(text)
    assert redact(once) == once


@given(st.lists(ANY_TEXT | st.binary()), ANY_TEXT)
def test_nothing_is_ever_raised(secrets: list[str | bytes], text: str) -> None:
    """Of any text, any secret, in all ways of asking."""
    redact = Redactor(secrets, [r"(?P<secret>\d+)x", "a+"])
    redact(text)
    redact.unfinished(text)
    redact.cut_off(text)
    redact.beginning(text)


@given(st.lists(st.text("abcé€😀", min_size=6, max_size=12), max_size=6), st.text("abcé€😀", max_size=60))
def test_literals_are_found_wherever_they_stand(texts: list[str], line: str) -> None:
    """The quick question never says no when a text is there, and every character of it is found."""
    literals = Literals()
    for text in texts:
        literals.add(text)
    line += "".join(texts)
    there = {at for text in texts for start in range(len(line)) if line.startswith(text, start)
             for at in range(start, start + len(text))}  # fmt: skip
    assert {at for start, end in literals.find(line) for at in range(start, end)} == there
    assert not (there and literals.absent(line))


@pytest.mark.parametrize("place", [0, 1, 4089, 4090, 4093, 4095, 4096, 4097, 8191, 20_000])
@pytest.mark.parametrize("secret", ["sixsix", "hunter22-hunter22"])
def test_long_lines_are_looked_through(place: int, secret: str) -> None:
    """Also where one block of a line ends and the next begins."""
    assert Redactor([secret])("." * place + secret + "." * 5000) == "." * place + "***" + "." * 5000


def test_the_longest_match_wins() -> None:
    """A secret that begins with another one is hidden as a whole, and so are two that overlap."""
    assert Redactor(["abcdef", "abcdefghij"])("<abcdefghij>") == "<***>"
    assert Redactor(["abcdef", "defghi"])("<abcdefghi>") == "<***>"
    assert Redactor(["abcdef"])("<abcdefabcdef>") == "<******>"


def test_short_secrets_are_ignored() -> None:
    """Five characters would hide half of every log; that is counted without the blanks around them."""
    assert not Redactor(["", "12345", "  12345 \n", b"\xff\xfe"])
    assert Redactor(["123456"])("123456") == "***"


def test_a_secret_of_several_lines() -> None:
    """Each line of it is hidden wherever it is printed, and so is the whole, as it is or escaped."""
    key = "-----BEGIN KEY-----\n  c2VjcmV0MQ==\r\nc2VjcmV0Mg\nend\n-----END KEY-----\n"
    redact = Redactor([key])
    assert [redact(line) for line in key.splitlines()] == ["***", "  ***", "***", "end", "***"]
    assert redact(json.dumps(key)) == '"***\\n"'
    assert redact(repr(key)) == "'***\\n'"
    assert "***" in redact(base64.b64encode(key.encode()).decode())


def test_a_very_long_secret() -> None:
    """It is looked for in parts, and no part of it stays."""
    secret = "".join(f"{number:05}" for number in range(20_000))
    assert set(Redactor([secret])(secret)) == {"*"}


def test_a_secret_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are known in the form in which lines show them, and in base64."""
    redact = Redactor([b"\xff\xfe\x00secret"])
    assert redact("<\\xff\\xfe\0secret>") == "<***>"
    assert redact(base64.b64encode(b"\xff\xfe\x00secret").decode()) == "***"


def test_too_many_secrets_hide_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has an end; where it is reached, no secret is shown for lack of it."""
    monkeypatch.setattr("celery_livelog.redact._MOST_CHARACTERS", 1000)
    redact = Redactor(f"secret number {number}" for number in range(50))
    assert redact("anything") == "***"
    assert redact("") == ""


def test_patterns() -> None:
    """The whole match is hidden, or only its group ``secret``; in each line of a text on its own."""
    redact = Redactor(patterns=[r"tok_\w+", r"(?i)password=(?P<secret>\S+)", "^begins"])
    assert redact("tok_abc and Password=x1 and password=") == "*** and Password=*** and password="
    assert redact("1\nbegins 2") == "1\n*** 2"


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "a*", "", "^", r"x|\s*"])
def test_a_pattern_that_cannot_be_used(pattern: str) -> None:
    """It is named; one that matches the empty text is as bad as one that cannot be compiled."""
    with pytest.raises(ValueError, match=r"is none: |matches the empty text"):
        compiled(pattern)
    assert Redactor(patterns=[pattern])("anything") == "***"


def test_a_pattern_that_matches_nothing_at_places() -> None:
    """``\\b`` and the like hide nothing, and do not fill the line with asterisks."""
    assert Redactor(patterns=[r"\b"])("two words") == "two words"


@given(SECRET, st.integers(0, 30))
def test_an_unfinished_line_shows_no_beginning_of_a_secret(secret: str, characters: int) -> None:
    """Of what is being written, at most the first character of a secret is shown before the secret is known as one."""
    secret = secret.strip()
    shown = Redactor([secret]).unfinished("|" + secret[:characters])
    assert shown.startswith("|")
    if characters >= len(secret):
        assert shown in ("|***", "|")  # its end may be the beginning of another one
    else:
        assert len(shown) <= 2


def test_an_unfinished_line_with_patterns() -> None:
    """Its last word waits: nobody can ask a pattern whether a match begins there."""
    redact = Redactor(patterns=[r"key_\d{6}"])
    assert [redact.unfinished(line) for line in ("Name: ", "at key_12345", "at key_123456 ")] == [
        "Name: ",
        "at ",
        "at *** ",
    ]


def test_an_unfinished_line_ends_in_a_secret_with_the_beginning_of_another() -> None:
    """The end that is held back takes nothing from the secret before it, which would then be half shown."""
    redact = Redactor(["hunter22", "r22-and-on"])
    assert redact.unfinished("it is hunter22") == "it is "
    assert redact("it is hunter22") == "it is ***"


@given(SECRET, st.integers(4, 30))
def test_a_text_that_was_cut_off(secret: str, characters: int) -> None:
    """Half a secret at the end of a text that somebody has cut is hidden, too."""
    secret = secret.strip()
    assert Redactor([secret]).cut_off("|" + secret[:characters]) in ("|***", "|***" + secret[len(secret) : characters])


@given(st.lists(SECRET, min_size=1, max_size=3), st.text("xy", max_size=60), st.lists(st.integers(0, 150), max_size=8))
def test_a_line_that_comes_in_pieces(secrets: list[str], filling: str, cuts: list[int]) -> None:
    """Wherever an overlong line is cut, what its pieces show is what the whole line would show."""
    redact = Redactor(secrets)
    line = filling + f"|{filling}|".join(secret.strip() for secret in secrets) + filling
    places = sorted({min(cut, len(line)) for cut in cuts})
    pieces = [line[a:b] for a, b in zip([0, *places], [*places, len(line)], strict=True)]
    shown, waiting = "", ""
    for piece in pieces[:-1]:
        part, waiting = redact.beginning(waiting + piece)
        shown += part
    assert shown + redact(waiting + pieces[-1]) == redact(line)


def test_what_waits_stays_small() -> None:
    """A line that is one secret after another does not pile up between its pieces."""
    redact = Redactor(["aaaaaa"])
    waiting = ""
    for _ in range(20):
        shown, waiting = redact.beginning(waiting + "a" * 10_000)
        assert set(shown) <= {"*"}
        assert len(waiting) < 100


def test_a_copy_has_secrets_of_its_own() -> None:
    """What is added to a copy is hidden there alone."""
    first = Redactor(["secret"])
    second = first.copy()
    second.add(["hunter"], ["x+"])
    assert (first("secret hunter x"), second("secret hunter x")) == ("*** hunter x", "*** *** ***")
