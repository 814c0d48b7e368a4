"""Counting failures by address."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.runtime.clock import ManualClock
from ibs.security.attempts import Attempts


def test_a_window_for_each_address() -> None:
    clock = ManualClock()
    attempts = Attempts(clock)
    assert [attempts.failed("192.0.2.1") for _ in range(3)] == [1, 2, 3]
    assert attempts.failed("192.0.2.2") == 1
    clock.advance(limits.AUTH_FAILURE_WINDOW_SECONDS - 1)
    assert attempts.failed("192.0.2.1") == 4
    clock.advance(1)
    assert attempts.failed("192.0.2.1") == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("", "", True),
        ("x", "y", False),
    ],
)
def test_which_addresses_are_one(one: str, other: str, same: bool) -> None:
    attempts = Attempts(ManualClock())
    attempts.failed(one)
    assert (attempts.failed(other) == 2) is same


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_PEERS_MAX", 3)
    attempts = Attempts(ManualClock())
    for number in range(10):
        attempts.failed("keep")
        attempts.failed(f"192.0.2.{number}")
    assert len(attempts) == 3
    assert attempts.failed("keep") == 11
