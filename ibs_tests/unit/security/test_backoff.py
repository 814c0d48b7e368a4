"""Waiting after wrong passwords: doubling, bounded, by key, and forgotten in time."""

from __future__ import annotations

import pytest

from ibs.core import limits, limits_access
from ibs.runtime.clock import ManualClock
from ibs.security.backoff import Backoff


def test_it_doubles_and_ends() -> None:
    clock = ManualClock()
    backoff = Backoff(clock, 3)
    waits = []
    for _ in range(20):
        backoff.failed("a")
        waits.append(backoff.wait("a"))
    assert waits[:7] == [0, 0, 1, 2, 4, 8, 16]
    assert waits[-1] == limits_access.LOGIN_WAIT_SECONDS_MAX
    assert backoff.wait("b") == 0
    clock.advance(waits[-1])
    assert backoff.wait("a") == 0
    backoff.forget("a")
    backoff.failed("a")
    assert backoff.wait("a") == 0
    for _ in range(5):
        backoff.failed("a")
    clock.advance(limits_access.LOGIN_FORGET_SECONDS + 1)
    assert backoff.failed("a") == 1


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_PEERS_MAX", 2)
    backoff = Backoff(ManualClock(), 1)
    for key in ("a", "b", "c"):
        backoff.failed(key)
    assert [backoff.wait(key) > 0 for key in ("a", "b", "c")] == [False, True, True]


def test_what_was_noted_before_a_restart_counts_on() -> None:
    backoff = Backoff(ManualClock(), 3)
    backoff.recall("old", 9, limits_access.LOGIN_FORGET_SECONDS + 1)
    backoff.recall("a", 6, 3.0)
    backoff.recall("future", 6, -1000.0)
    assert [backoff.wait(key) for key in ("old", "a", "future")] == [0, 5, 8]
    assert backoff.failed("a") == 7
    assert backoff.forget("a")
    assert not backoff.forget("a")


def test_what_is_taken_over_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_PEERS_MAX", 2)
    backoff = Backoff(ManualClock(), 1)
    for ago, key in ((3.0, "a"), (2.0, "b"), (1.0, "c")):
        backoff.recall(key, 9, ago)
    assert [backoff.wait(key) > 0 for key in ("a", "b", "c")] == [False, True, True]
