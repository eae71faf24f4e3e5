"""Scopes: what is held by one, and what is never taken for one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from celery_livelog.permissions import EVERYTHING, Scope, ScopeError, seen


@pytest.mark.parametrize("condition", ["account", "site", "owner", "task_id", "run_id"])
@pytest.mark.parametrize("value", [None, "", "  ", True, False])
def test_a_missing_value_widens_nothing(condition: str, value: Any) -> None:
    """A user without an account must not see those of all accounts."""
    with pytest.raises(ScopeError, match=condition):
        Scope(**{condition: value})


def test_a_scope_has_a_condition() -> None:
    """One without any would hold everything; that has a name of its own."""
    with pytest.raises(ScopeError, match="expected account, site, owner, task_id or run_id"):
        Scope()


def test_what_a_scope_holds() -> None:
    """All conditions must hold, and what is not known fulfils none."""
    assert Scope(account="a1").holds("a1", "s1")
    assert not Scope(account="a1").holds("a2", "s1")
    assert not Scope(account="a1").holds("", "")
    assert Scope(account="a1", site="s1").holds("a1", "s1")
    assert not Scope(account="a1", site="s1").holds("a1", "s2")
    assert not Scope(account="a1", site="s1").holds("a2", "s1")
    assert Scope(account=7).holds("7", "")


def test_owners_are_known_as_runs_name_them() -> None:
    """A run takes what is no text as its representation; a text is only itself."""
    assert Scope(owner=7).owners == {"7"}
    assert Scope(owner="bob").owners == {"bob"}
    identity = UUID(int=7)
    assert Scope(owner=identity).owners == {str(identity), repr(identity)}


def test_what_is_given_to_a_viewer() -> None:
    """One scope, several, all, or nothing."""
    scope = Scope(account="a1")
    assert seen(None) == seen([]) == ()
    assert seen(scope) == seen([scope]) == seen(iter([scope])) == (scope,)
    assert seen(EVERYTHING) == seen([scope, EVERYTHING]) == EVERYTHING


@pytest.mark.parametrize("given", [True, 1, "a1", {"account": "a1"}, [True], [None], ["a1"], Scope])
def test_what_is_no_scope_is_refused(given: Any) -> None:
    """A hook that answers with a flag or a name has been written for something else."""
    with pytest.raises(ScopeError):
        seen(given)
