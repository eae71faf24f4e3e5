"""Tokens: what they let in, and that nothing else does."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.access.tokens import LONGEST, NO_KEY, Tokens
from celery_livelog.errors import TokenError
from celery_livelog.permissions import Scope

NOW = 1_790_000_000.0
KEY, OTHER = "k" * 40, "o" * 40
TOKENS = Tokens([KEY])
#: Of all characters, NUL and half surrogate pairs among them.
IDS = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=60).filter(str.strip)
VIEW = TOKENS.view(task_id="a-task", expires=NOW + 60, name="bob")
WRITE = TOKENS.write(ids=["a-task"], expires=NOW + 60)


def claims(token: str) -> dict[str, object]:
    payload = token.rpartition(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


@given(IDS)
def test_a_token_for_a_task_shows_that_task(task_id: str) -> None:
    """Whatever characters its id has, and whoever the token calls its viewer."""
    viewer = TOKENS.viewer(TOKENS.view(task_id=task_id, expires=NOW + 60, name="bob"), NOW)
    assert viewer.seen == (Scope(task_id=task_id),)
    assert (viewer.via, viewer.name, viewer.expires) == ("token", "bob", NOW + 60)


@given(IDS, IDS)
def test_a_token_for_a_run_shows_that_of_its_account(run_id: str, account: str) -> None:
    """A run is one of an account and a site: without them, one that has none."""
    token = TOKENS.view(run_id=run_id, account=account, site="s7", expires=NOW + 60)
    (scope,) = TOKENS.viewer(token, NOW).scopes
    assert (scope.run_id, scope.place) == (run_id, (account, "s7"))
    (scope,) = TOKENS.viewer(TOKENS.view(run_id=run_id, expires=NOW + 60), NOW).scopes
    assert scope.place == ("", "")
    assert not scope.holds(account, "", run_id)


@given(st.sampled_from([VIEW, WRITE]), st.data())
def test_a_token_with_a_change_is_none(token: str, data: st.DataObject) -> None:
    """A character changed, left out or put in anywhere, also where base64 would not mind."""
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters() | st.sampled_from("AQgw-_=.! \n"))
    removed = data.draw(st.integers(0, 1))
    changed = token[:place] + data.draw(st.sampled_from(["", character])) + token[place + removed :]
    for ask in (TOKENS.viewer, TOKENS.writer):
        if changed != token:
            with pytest.raises(TokenError, match=r"^the token is not valid$"):
                ask(changed, NOW)


@pytest.mark.parametrize("last", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")
def test_one_signature_has_one_text(last: str) -> None:
    """The last character of base64 says less than it could: others would do."""
    if VIEW[-1] != last:
        with pytest.raises(TokenError):
            TOKENS.viewer(VIEW[:-1] + last, NOW)


def test_each_kind_is_refused_as_the_other() -> None:
    """Who may read may not write, nor the other way round, also when the rest of the token is the same."""
    with pytest.raises(TokenError, match="not valid"):
        TOKENS.viewer(WRITE, NOW)
    with pytest.raises(TokenError, match="not valid"):
        TOKENS.writer(VIEW, NOW)
    for first, second in ((VIEW, WRITE), (WRITE, VIEW)):  # the one's claims with the other's signature
        swapped = first.rpartition(".")[0] + "." + second.rpartition(".")[2]
        for ask in (TOKENS.viewer, TOKENS.writer):
            with pytest.raises(TokenError, match="not valid"):
                ask(swapped, NOW)


@given(st.floats(NOW - 1e6, NOW + 1e6))
def test_a_token_is_over_at_its_end(now: float) -> None:
    """Exactly then, and for viewers as for writers."""
    for ask, token in ((TOKENS.viewer, VIEW), (TOKENS.writer, WRITE)):
        if now < NOW + 60:
            assert ask(token, now).expires == NOW + 60
        else:
            with pytest.raises(TokenError, match=r"^the token has expired$"):
                ask(token, now)
    with pytest.raises(TokenError, match="expired"):
        TOKENS.viewer(VIEW, NOW + 60)


def test_another_site_s_token_is_none() -> None:
    """Nor is one that is signed with the key as it is, or with no key at all."""
    for tokens in (Tokens([OTHER]), Tokens([]), Tokens([KEY[:-1]]), Tokens([KEY + "k"])):
        with pytest.raises(TokenError, match="not valid"):
            tokens.viewer(VIEW, NOW)


def test_keys_are_rotated() -> None:
    """The new one goes in front and signs; the old one's tokens hold until it is taken away."""
    both, new = Tokens([OTHER, KEY]), Tokens([OTHER])
    assert both.viewer(VIEW, NOW).name == "bob"
    assert both.writer(WRITE, NOW).ids == {"a-task"}
    with pytest.raises(TokenError, match="not valid"):
        new.viewer(VIEW, NOW)
    assert new.viewer(both.view(task_id="a", expires=NOW + 1), NOW).seen == (Scope(task_id="a"),)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "x" * (LONGEST + 1), "\0", "\ud800", "é.é", VIEW + "\n"])
def test_what_is_no_token(token: str) -> None:
    """Is refused as any other, whatever its length."""
    with pytest.raises(TokenError, match=r"^the token is not valid$"):
        TOKENS.viewer(token, NOW)


def test_what_a_token_can_not_be_made_for() -> None:
    """Nothing, both, too much, and without a key: each is said in one line."""
    with pytest.raises(TokenError, match="and not both"):
        TOKENS.view(expires=NOW)
    with pytest.raises(TokenError, match="and not both"):
        TOKENS.view(task_id="a", run_id="b", expires=NOW)
    with pytest.raises(TokenError, match="expected a text"):
        TOKENS.view(task_id=" \t", expires=NOW)
    with pytest.raises(TokenError, match=r"characters long; expected 4096 at most"):
        TOKENS.view(task_id="x" * LONGEST, expires=NOW)
    for ids in ([], [""], ["a", ""]):
        with pytest.raises(TokenError, match="expected the ids of tasks"):
            TOKENS.write(ids=ids, expires=NOW)
    with pytest.raises(TokenError, match=r"livelog_secret_key is not set .*secrets\.token_urlsafe"):
        Tokens([]).view(task_id="a", expires=NOW)
    assert "\n" not in NO_KEY
    assert Tokens(["short"]).weak
    assert not TOKENS.weak


def test_the_longest_token_is_accepted() -> None:
    """What can be made is taken."""
    task_id = "x" * 2900
    assert TOKENS.viewer(TOKENS.view(task_id=task_id, expires=NOW + 1), NOW).seen == (Scope(task_id=task_id),)


@given(IDS, IDS)
def test_who_may_write_what(own: str, other: str) -> None:
    """Exactly these ids; those that begin so; those of an account, with its token only."""
    exact = TOKENS.writer(TOKENS.write(ids=[own], expires=NOW + 1), NOW)
    assert exact.may_write(own)
    assert exact.may_write(other) == (other == own)
    assert not exact.may_write(own + other)
    assert not exact.may_write(own, account="a1")
    begun = TOKENS.writer(TOKENS.write(prefix=own, expires=NOW + 1), NOW)
    assert begun.may_write(own + other)
    assert begun.may_write(other) == other.startswith(own)
    owned = TOKENS.writer(TOKENS.write(prefix=own, account="a1", expires=NOW + 1), NOW)
    assert owned.may_write(own, "a1")
    assert not owned.may_write(own)
    assert not owned.may_write(own, "a2")
    of_account = TOKENS.writer(TOKENS.write(account="a1", expires=NOW + 1), NOW)
    assert of_account.may_write(other, "a1")
    assert not of_account.may_write(other, "a")


def test_a_token_says_what_it_is_for_and_no_more() -> None:
    """It is signed, not sealed: who has it can read it, so nothing is in it but what it is for."""
    assert claims(VIEW) == {"aud": "livelog-view", "exp": int(NOW) + 60, "task_id": "a-task", "name": "bob"}
    assert claims(WRITE) == {"aud": "livelog-ingest", "exp": int(NOW) + 60, "ids": ["a-task"]}
    assert KEY not in VIEW + WRITE
