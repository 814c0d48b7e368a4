"""What the server tells of itself: that it starts and stops, how its roles fare, that its event loop stalled.

Used by `app`.
"""

from __future__ import annotations

from ibs.core.events import Event, EventSource, JsonScalar, Severity
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.bus import Bus
from ibs.runtime.stall import Stall
from ibs.runtime.supervisor import ServiceState, State

_log = get_logger("api")


def notice(bus: Bus[Event], clock: Clock, kind: str, text: str) -> None:
    """Something that people may want to know, of the server as a whole."""
    _log.info(text)
    bus.publish(Event(clock.now(), EventSource.SYSTEM, Severity.NOTICE, kind, text))


def service_state(bus: Bus[Event], clock: Clock, state: ServiceState) -> None:
    """A role's change of state is an event; only trouble and its end are worth a notice."""
    trouble = state.state in (State.RESTARTING, State.FAILED)
    severity = Severity.ERROR if trouble else Severity.INFO
    if state.state is State.RUNNING and state.restarts:
        severity = Severity.NOTICE
    text = f"service {state.role} is {state.state}" + (f": {state.last_error}" if trouble else "")
    fields: dict[str, JsonScalar] = {"role": state.role, "state": str(state.state), "restarts": state.restarts}
    bus.publish(Event(clock.now(), EventSource.SYSTEM, severity, "service.state", text[:1000], fields))


def report_stall(stall: Stall, unreported: int) -> None:
    """For `runtime.stall.StallDetector`."""
    _log.warning(
        "the event loop stalled",
        task=stall.task,
        duration_ms=stall.duration_ms,
        computing_ms=stall.computing_ms,
        unreported=unreported,
    )
