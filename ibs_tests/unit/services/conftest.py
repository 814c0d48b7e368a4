"""A catalog, a task registry and a supervisor in virtual time: nothing here waits for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from ibs.catalog.catalog import Catalog, open_catalog
from ibs.core.events import Event
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores, Parts
from ibs.engine.tasks import TaskRegistry
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.bus import Bus
from ibs.runtime.clock import LoopClock
from ibs.runtime.mailbox import Handle
from ibs.runtime.pool import InlinePool
from ibs.runtime.supervisor import ServiceState, Supervisor, by_role
from ibs_tests.support.engine import SEED, counting_entropy, key_registry


class House:
    """What services are made of, without threads."""

    def __init__(self, catalog: Catalog, clock: LoopClock) -> None:
        self.catalog, self.clock, self.pool = catalog, clock, InlinePool()
        self.known_keys = key_registry()  # what datastores take; tests of the register itself ask that one
        self.bus: Bus[Event] = Bus()
        self.events: list[Event] = []
        self.tasks = TaskRegistry(
            catalog.tasks,
            catalog.state / "tasks",
            pool=self.pool,
            clock=clock,
            node="testnode",
            publish=self.publish,
        )
        self.supervisor = Supervisor(clock)
        parts = Parts(
            pool=self.pool,
            clock=clock,
            publish=self.publish,
            server_uuid=catalog.server_uuid,
            signing_seed=SEED,
            entropy=counting_entropy(),
            keys=self.known_keys,
        )
        self.datastores = Datastores(catalog.datastores, parts)

    async def make_store(self, name: str = "s1") -> Datastore:
        """A new datastore beside the state folder."""
        folder = self.catalog.state.parent / name
        folder.mkdir()
        await self.datastores.create(name, str(folder))
        return await self.datastores.get(name)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def publish(self, event: Event) -> None:
        self.events.append(event)
        self.bus.publish(event)

    def add(self, role: str, factory: Callable[[Seat], Actor]) -> Handle:
        return self.supervisor.add(factory, role)

    def state(self, role: str) -> ServiceState:
        return by_role(self.supervisor.states())[role]

    async def kill(self, role: str) -> None:
        """Inject a fault and see the role restart."""
        self.supervisor.inject_fault(role)
        await trio.testing.wait_all_tasks_blocked()
        assert str(self.state(role).state) == "activating (auto-restart)"
        await trio.sleep(1)
        assert str(self.state(role).state) == "active (running)"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.supervisor.run(task_status=task_status))
            yield
            self.supervisor.request_stop("test")

    async def log(self, upid: str) -> list[str]:
        return [line.text async for line in self.tasks.log(upid)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Tests name `autojump_clock` too: pytest-trio takes the clock from a test's own arguments only."""
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        house = House(catalog, LoopClock())
        yield house
        await house.datastores.close()
