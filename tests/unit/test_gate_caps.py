"""How many are served at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.web.gate_caps import Caps, Limits, Place
from celery_livelog.web.refusal import Refusal


def test_an_address_has_so_many_places() -> None:
    """Beyond that it is refused, with the time to come again; others are served."""
    caps = Caps(Limits(total=10, per_address=2, per_viewer=10))
    first, _ = caps.take("a"), caps.take("a")
    with pytest.raises(Refusal) as refused:
        caps.take("a")
    assert (refused.value.status, refused.value.close_code, refused.value.headers) == (429, 4429, {"Retry-After": "5"})
    caps.take("b")
    first.release()
    first.release()
    caps.take("a")
    with pytest.raises(Refusal):
        caps.take("a")


def test_all_together_have_so_many_places() -> None:
    """However many addresses they come from."""
    caps = Caps(Limits(total=3, per_address=2, per_viewer=10))
    places = [caps.take(str(number)) for number in range(3)]
    with pytest.raises(Refusal):
        caps.take("another")
    places[0].release()
    caps.take("another")


def test_a_viewer_has_so_many_places() -> None:
    """From whatever addresses; nobody in particular has as many as there are, and one socket counts once."""
    caps = Caps(Limits(total=100, per_address=100, per_viewer=2))
    places = [caps.take(str(number)) for number in range(4)]
    for place in places[:2]:
        place.of_viewer("v")
        place.of_viewer("v")
    with pytest.raises(Refusal):
        places[2].of_viewer("v")
    for place in places:
        place.of_viewer("")
    places[2].of_viewer("another")
    places[0].release()
    places[3].of_viewer("v")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("vw"), st.booleans())))
def test_who_leaves_leaves_nothing(steps: list[tuple[str, str, bool]]) -> None:
    """After all were released there is as much room as at first, whoever came and was refused in between."""
    limits = Limits(total=4, per_address=3, per_viewer=2)
    caps, taken = Caps(limits), list[Place]()
    for address, viewer, leaves in steps:
        try:
            taken.append(caps.take(address))
            taken[-1].of_viewer(viewer)
        except Refusal:
            pass
        if leaves and taken:
            taken.pop(0).release()
    for place in taken:
        place.release()
    assert caps.taken == 0
    for viewer in "vw":
        for _ in range(limits.per_viewer):
            caps.take(viewer).of_viewer(viewer)
