"""What the server tells of itself: roles in trouble and well again, a loop that stalled."""

from __future__ import annotations

import logging

import pytest

from ibs.core.events import Event, Severity
from ibs.runtime.bus import Bus
from ibs.runtime.clock import LoopClock
from ibs.runtime.stall import Stall
from ibs.runtime.supervisor import ServiceState, State
from ibs.services.telling import notice, report_stall, service_state
from ibs_tests.support.control import logged


@pytest.mark.parametrize(
    ("now", "restarts", "severity", "text"),
    [
        (State.RUNNING, 0, Severity.INFO, "service gc is active (running)"),
        (State.RUNNING, 2, Severity.NOTICE, "service gc is active (running)"),
        (State.RESTARTING, 1, Severity.ERROR, "service gc is activating (auto-restart): no room"),
        (State.FAILED, 9, Severity.ERROR, "service gc is failed: no room"),
    ],
)
async def test_a_role_that_changes(now: State, restarts: int, severity: Severity, text: str) -> None:
    bus, clock = Bus[Event](), LoopClock()
    with bus.subscribe("test") as events:
        service_state(bus, clock, ServiceState("gc", "collects", now, clock.now(), restarts, "no room", 0))
        event = await events.peek()
    assert (event.severity, event.kind, event.text) == (severity, "service.state", text)
    assert event.fields == {"role": "gc", "state": str(now), "restarts": restarts}


async def test_a_notice_is_logged_and_an_event(caplog: pytest.LogCaptureFixture) -> None:
    bus: Bus[Event] = Bus()
    with bus.subscribe("test") as events, caplog.at_level(logging.INFO, "ibs"):
        notice(bus, LoopClock(), "server.started", "it listens")
        assert (await events.peek()).severity is Severity.NOTICE
    assert "it listens" in logged(caplog.records)


def test_a_stall_is_logged_with_its_task(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ibs"):
        report_stall(Stall("some task", 120.5, 80.0), 3)
    line = logged(caplog.records)
    assert "the event loop stalled" in line
    assert all(part in line for part in ("some task", "120.5", "80.0", "3"))
