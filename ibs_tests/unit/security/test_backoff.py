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
