"""Figures of the server for Prometheus and other metric servers: everything that the tables show, as numbers.

Made by `app`, asked by `control` and by targets that are sent figures. Cheap by construction: an answer is put together
from memory and looks at no datastore. Those are looked at in the background, when somebody asked lately, at a pace that
their size allows; so their figures are those of the last look (`ironcore_backup_survey_time_seconds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import trio
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector

from ibs import log
from ibs.core import limits
from ibs.core.events import Event
from ibs.engine.datastores import Datastores
from ibs.engine.tasks import TaskRegistry
from ibs.errors import IbsError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.bus import Bus
from ibs.runtime.mailbox import Handle
from ibs.runtime.stall import StallDetector
from ibs.runtime.supervisor import Supervisor, by_role
from ibs.services import metrics_server, metrics_stores
from ibs.services.metrics_counters import Counters
from ibs.services.metrics_survey import Survey, store_of, survey
from ibs.services.worker import WorkerStatus
from ibs.wire.system import WorkerView

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_log = log.get_logger("api")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the figures come from. `groups`: also one row for each backup group."""

    node: str
    started: datetime
    certificate_expires: Callable[[], datetime]
    clock: Clock
    pool: Pool
    bus: Bus[Event]
    datastores: Datastores
    tasks: TaskRegistry
    supervisor: Supervisor
    stalls: StallDetector
    worker: Handle
    groups: bool = False
    more: Sequence[Callable[[], Iterable[Metric]]] = ()
    """Families of other parts; asked each time, must be quick and look at memory only."""


class Metrics:
    """Collects while `run` runs."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._counters = Counters()
        self._process = ProcessCollector(registry=None)
        self._survey: Survey | None = None
        self._wanted = trio.Event()
        self._looked = trio.Event()

    async def run(self) -> None:
        """Count what happens, and look at datastores when somebody wants to know, until cancelled."""
        events = self._sources.bus.subscribe("metrics")
        with log.tap(self._counters.note_line), events:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the three tasks below
                nursery.start_soon(self._sample_delay)
                nursery.start_soon(self._keep_looking)
                async for event in events:
                    await self._note(event)

    async def families(self) -> list[Metric]:
        """Everything as it is now; figures of datastores as of the last look, which the first asker waits for."""
        self._wanted.set()
        if self._survey is None:
            with trio.move_on_after(limits.METRICS_FIRST_WAIT_SECONDS):
                await self._looked.wait()
        sources = self._sources
        found: list[Metric] = [
            *metrics_server.about(sources.node, sources.started, sources.certificate_expires()),
            *metrics_server.services(sources.supervisor.states()),
            *metrics_server.loop(sources.stalls.statistics),
            *metrics_server.bus(sources.bus.subscriptions),
            *metrics_server.open_tasks(sources.tasks.open_tasks(), sources.clock.now()),
            *metrics_server.worker(await self._worker()),
            *metrics_stores.standing(sources.datastores.standing()),
            *metrics_stores.surveyed(self._survey),
            *self._counters.collect(),
            *self._process.collect(),
        ]
        for more in sources.more:
            found += more()
        return found

    async def text(self) -> bytes:
        """The exposition format of Prometheus, version 0.0.4."""
        # In a thread: with thousands of groups it takes longer than the loop may be held up.
        return await self._sources.pool.disk(exposition, await self.families())

    async def lines(self) -> bytes:
        """The same as lines of the InfluxDB line protocol, all of one moment, for targets that are sent figures."""
        now = self._sources.clock.now_ns()
        return await self._sources.pool.disk(influx_lines, await self.families(), self._sources.node, now)

    async def _worker(self) -> WorkerView | None:
        try:
            return await self._sources.worker.ask(WorkerStatus(), timeout=limits.METRICS_ASK_SECONDS_MAX)
        except IbsError:
            return None  # its state says so

    async def _note(self, event: Event) -> None:
        subject = str(event.fields.get("id", ""))
        self._counters.note_event(event, store_of(subject, [one[0] for one in self._sources.datastores.standing()]))
        if event.kind == "task.ended":
            try:
                task = await self._sources.tasks.get(str(event.fields.get("upid", "")))
            except IbsError:
                return
            self._counters.note_stages(task.type, task.stages)

    async def _sample_delay(self) -> None:
        while True:
            await self._sources.clock.sleep(limits.METRICS_DELAY_SAMPLE_SECONDS)
            before = self._sources.clock.monotonic()
            await trio.lowlevel.checkpoint()
            self._counters.note_delay(self._sources.clock.monotonic() - before)

    async def _keep_looking(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            took = await self._look()
            await self._sources.clock.sleep(max(limits.METRICS_SURVEY_SECONDS, took * limits.METRICS_SURVEY_SHARE))

    async def _look(self) -> float:
        sources = self._sources
        began = sources.clock.monotonic()
        verifier = by_role(sources.supervisor.states()).get("verifier")
        try:
            self._survey = await survey(
                sources.datastores, sources.tasks, sources.clock, verifier, groups=sources.groups
            )
        except IbsError as error:
            _log.warning("the figures of datastores could not be looked up", error=error.message)
        except Exception:  # noqa: BLE001 - one bad look must not end the counting; told whole, and made again
            _log.exception("looking up the figures of datastores failed")
        self._looked.set()
        return sources.clock.monotonic() - began


class _Ready:
    """Families that were collected already, as `prometheus_client` wants a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric]) -> bytes:
    """Text format 0.0.4 (CONTENT_TYPE)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(families))
    return generate_latest(registry)


def influx_lines(families: Iterable[Metric], node: str, time_ns: int) -> bytes:
    """InfluxDB line protocol: a measurement a sample, its labels as tags beside `host`, one field `value`.

    Buckets of histograms are left out; their count and sum stay.
    """
    lines = []
    for family in families:
        for sample in family.samples:
            if sample.name.endswith("_bucket") or sample.value != sample.value or abs(sample.value) == float("inf"):
                continue
            tags = {"host": node, **sample.labels}
            told = "".join(f",{_tag(name)}={_tag(value)}" for name, value in sorted(tags.items()) if value)
            lines.append(f"{_tag(sample.name)}{told} value={float(sample.value)!r} {time_ns}\n")
    return "".join(lines).encode()


def _tag(text: str) -> str:
    flat = text.replace("\\", "/").replace("\n", " ")
    return "".join(f"\\{char}" if char in ", =" else char for char in flat)
