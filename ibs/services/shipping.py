"""Sends figures and log lines to targets that asked for them: InfluxDB and the push gateway of Prometheus.

Made by `app`, runs beside the roles. Events go another way, through the durable outbox (`services.deliveries`): figures
are of the moment they are sent, so what could not be sent is not sent later; log lines wait in memory, the newest
LINES_KEPT_MAX of them, until their target took them. Trouble is one event when it begins and one when it is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from ibs import log
from ibs.catalog.notifications import TargetRecord
from ibs.core import limits_notify
from ibs.core.events import Event, EventSource, Severity
from ibs.errors import FailedError, IbsError
from ibs.notify.message import influx_log
from ibs.ports.clock import Clock

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_log = log.get_logger("notify")


class Shipper(Protocol):
    """Carries a body to a target; `services.deliveries.Carrier` is the real one."""

    async def ship(self, target: TargetRecord, body: bytes) -> None: ...


class Targets(Protocol):
    """The catalog's table."""

    async def targets(self) -> Sequence[TargetRecord]: ...


class Figures(Protocol):
    """`services.metrics.Metrics`."""

    async def text(self) -> bytes: ...
    async def lines(self) -> bytes: ...


@dataclass(slots=True)
class _Standing:
    """Of one target: when it gets something next (monotonic), the last line it took, whether the last try failed."""

    due: float
    taken: int
    failing: bool = False
    busy: bool = False


class Shipping:
    """One a server. `node` names it in what is sent."""

    def __init__(
        self,
        table: Targets,
        shipper: Shipper,
        figures: Callable[[], Figures],
        node: str,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
    ) -> None:
        self._table, self._shipper, self._figures, self._node = table, shipper, figures, node
        self._clock, self._publish = clock, publish
        self._lines: deque[tuple[int, int, str]] = deque(maxlen=limits_notify.LINES_KEPT_MAX)
        self._noted = 0
        self._least = len(LEVELS)
        self._standing: dict[str, _Standing] = {}

    async def run(self) -> None:
        """Until cancelled."""
        with log.tap(self._note):
            async with trio.open_nursery() as nursery:  # noqa: TID251 - one task a target under way
                while True:
                    pause = await self._start_due(nursery)
                    await self._clock.sleep(pause)

    def _note(self, line: Mapping[str, Any]) -> None:
        """A line was logged; called in the thread that logs."""
        level = str(line.get("level", ""))
        rank = LEVELS.index(level) if level in LEVELS else 0
        if rank >= self._least:
            self._noted += 1
            self._lines.append((self._noted, rank, influx_log(line, self._node, self._clock.now_ns())))

    async def _start_due(self, nursery: trio.Nursery) -> float:
        """Begin with every target whose time has come; seconds until the next one's."""
        try:
            wanted = [target for target in await self._table.targets() if target.enabled and _interval(target)]
        except IbsError as error:
            _log.error("the targets cannot be read", error=error.message)
            return limits_notify.SHIP_LOOK_SECONDS
        self._least = min((LEVELS.index(one.spec.logs) for one in wanted if one.spec.logs), default=len(LEVELS))
        names = {target.name for target in wanted}
        self._standing = {name: kept for name, kept in self._standing.items() if name in names}
        now, pause = self._clock.monotonic(), limits_notify.SHIP_LOOK_SECONDS
        for target in wanted:
            kept = self._standing.setdefault(target.name, _Standing(due=now, taken=self._noted))
            if kept.busy:
                continue
            if kept.due <= now:
                kept.due, kept.busy = now + _interval(target), True
                nursery.start_soon(self._serve, target, kept)
            pause = min(pause, kept.due - now)
        return max(pause, 0.05)

    async def _serve(self, target: TargetRecord, kept: _Standing) -> None:
        try:
            body, last = await self._body(target, kept.taken)
            if body:
                await self._shipper.ship(target, body)
            kept.taken = last
        except FailedError as error:
            self._tell(target.name, kept, error.message)
        except Exception as error:  # noqa: BLE001 - one target's odd settings or receiver must not stop the others
            _log.exception("figures could not be sent in an unforeseen way", target=target.name)
            self._tell(target.name, kept, type(error).__name__)
        else:
            self._tell(target.name, kept, "")
        finally:
            kept.busy = False

    async def _body(self, target: TargetRecord, taken: int) -> tuple[bytes, int]:
        """What it gets now, and the number of the last log line in it."""
        spec, figures = target.spec, self._figures()
        if spec.kind == "pushgateway":
            return await figures.text(), taken
        parts = [await figures.lines()] if spec.figures_seconds else []
        if not spec.logs:
            return b"".join(parts), taken
        rank = LEVELS.index(spec.logs)
        waiting = [line for line in tuple(self._lines) if line[0] > taken][: limits_notify.LINES_SENT_MAX]
        parts += [text.encode("utf-8", "replace") for _, severity, text in waiting if severity >= rank]
        return b"".join(parts), waiting[-1][0] if waiting else taken

    def _tell(self, name: str, kept: _Standing, trouble: str) -> None:
        if bool(trouble) == kept.failing:
            return
        kept.failing = bool(trouble)
        text = f"target {name} takes figures and logs again"
        severity, kind = Severity.NOTICE, "notify.shipping-well"
        if trouble:
            text = f"figures and logs do not reach target {name}: {trouble}"
            severity, kind = Severity.WARNING, "notify.shipping-failed"
            _log.warning(text)
        else:
            _log.info(text)
        fields = {"target": name}
        self._publish(Event(self._clock.now(), EventSource.SYSTEM, severity, kind, text[:1000], fields))


def _interval(target: TargetRecord) -> float:
    """Seconds between two messages; 0: it wants neither figures nor logs."""
    spec = target.spec
    return float(spec.figures_seconds or (limits_notify.SHIP_LOGS_SECONDS if spec.logs else 0))
