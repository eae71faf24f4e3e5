"""Times and durations as people write and read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from celery_livelog.cli.times import ago, parse_duration, parse_since, parse_time, short_duration

_NOW = datetime(2026, 5, 9, 14, 23, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800), ("250ms", 0.25)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5x", "5m!", "-5m", "1h 30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_since_takes_a_duration_or_a_time() -> None:
    assert parse_since("5m", _NOW) == datetime(2026, 5, 9, 14, 18, 1, tzinfo=timezone.utc)
    assert parse_since("2026-05-09T16:00:00+02:00", _NOW) == datetime(2026, 5, 9, 14, tzinfo=timezone.utc)
    assert parse_since("2026-05-09T14:00:00Z", _NOW) == datetime(2026, 5, 9, 14, tzinfo=timezone.utc)


def test_a_time_without_a_zone_is_local() -> None:
    local = datetime(2026, 5, 9, 14).astimezone()
    assert parse_time("2026-05-09T14:00") == local


@pytest.mark.parametrize("text", ["yesterday", "5", "", "99999999999d"])
def test_since_says_what_it_takes(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as 5m or 1h30m, or a time such as 2026-05-09T14:23"):
        parse_since(text, _NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00s"), (0.4249, "0.42s"), (12.34, "12.3s"), (245, "4m05s"), (7800, "2h10m"), (273_600, "3d04h")],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (7300, "2h"), (200_000, "2d")])
def test_the_past_is_shown_in_its_largest_unit(seconds: int, text: str) -> None:
    assert ago(_NOW - timedelta(seconds=seconds), _NOW) == f"{text} ago"
