"""The api actor runs what it is given, tells the address, and comes back after a fault."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ibs.control.listener import Address
from ibs.errors import FailedError
from ibs.runtime.supervisor import Supervisor
from ibs.services.api import Api
from ibs_tests.unit.services.conftest import House


async def test_it_tells_each_address_and_ends_when_the_server_stops(house: House, autojump_clock: MockClock) -> None:
    bound: list[Any] = []

    async def serve_api(stopping: trio.Event, task_status: trio.TaskStatus[Any]) -> None:
        task_status.started(Address("127.0.0.1", 8007 + len(bound)))
        await stopping.wait()

    house.supervisor.add(lambda seat: Api(seat, serve_api, bound.append), "api", essential=True)
    async with house.running():
        assert bound == [Address("127.0.0.1", 8007)]
        await house.kill("api")
        assert [address.port for address in bound] == [8007, 8008]
    assert str(house.state("api").state) == "inactive (dead)"


async def test_an_address_in_use_ends_the_start_with_its_reason(house: House, autojump_clock: MockClock) -> None:
    async def serve_api(_stopping: trio.Event, _task_status: trio.TaskStatus[Any]) -> None:
        raise FailedError("the address is in use")

    supervisor = Supervisor(house.clock)
    supervisor.add(lambda seat: Api(seat, serve_api, print), "api", essential=True)
    with pytest.raises(ExceptionGroup) as caught:
        await supervisor.run()
    assert caught.group_contains(FailedError, match="the address is in use", depth=None)
