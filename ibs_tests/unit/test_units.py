"""Quantities as people write and read them."""

from __future__ import annotations

import math

import pytest

from ibs import units
from ibs.errors import UsageError


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),  # never 1024.0 KiB
        (3 << 29, "1.5 GiB"),
        (1 << 70, "1024.0 EiB"),
        (-5000, "-4.9 KiB"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_bytes_are_written_in_the_largest_iec_unit(count: float, text: str) -> None:
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("3 B", 3),
        ("64K", 64 << 10),
        ("64k", 64 << 10),
        ("1.5 GiB", 3 << 29),
        (" 10mib ", 10 << 20),
        ("500 MB", 500_000_000),
        ("0", 0),
        ("0.3 B", 0),
        ("7.9 EiB", int(7.9 * 10) * (1 << 60) // 10),
    ],
)
def test_bytes_are_read(text: str, count: int) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "B", "ib", "5 ib", "-1", "1e9", "1.5.2 K", "8 EiB", "9" * 30, "1 KiB/s", "٣ KiB"])
def test_wrong_sizes_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="size") as caught:
        units.parse_bytes(text)
    assert caught.value.hint


def test_messages_do_not_grow_with_the_input() -> None:
    for parse in (units.parse_bytes, units.parse_rate, units.parse_duration):
        with pytest.raises(UsageError) as caught:
            parse("x" * 100_000)
        assert len(caught.value.message) < 200


def test_rates() -> None:
    assert units.format_rate(10 << 20) == "10.0 MiB/s"
    assert units.parse_rate("10 MiB/s") == 10 << 20
    assert units.parse_rate("10MiB / S") == 10 << 20
    assert units.parse_rate("5M") == 5 << 20
    for wrong in ("", "fast", "10 MiB/h", "0", "0.5 B/s"):
        with pytest.raises(UsageError, match="rate"):
            units.parse_rate(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (300_000, "3 d 11 h"),
        (-61, "-1 min 01 s"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
    ],
)
def test_durations_are_written_in_their_two_largest_parts(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("90s", 90.0),
        ("5 min", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d 3 hours", 183_600.0),
        ("1W", 604_800.0),
        ("2 weeks", 1_209_600.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1h x", "5 y", "-5m", "m5", "101 h h", "36601 d"])
def test_wrong_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        units.parse_duration(text)


def test_counts_have_thousands_apart() -> None:
    assert units.format_count(0) == "0"
    assert units.format_count(1_234_567) == "1,234,567"
