"""The outbox is emptied in order, ever later after failures, and never gives a message up."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import MockClock

from ibs.catalog.notifications import TargetRecord
from ibs.core.events import Event, EventSource, Severity
from ibs.errors import FailedError
from ibs.notify.message import EventJson, Sent
from ibs.services.deliveries import Deliveries
from ibs.services.notify import Notify
from ibs.wire.notification import TargetSpec
from ibs_tests.unit.services.conftest import House


class Receivers:
    """Takes messages for all targets; those in `ill` fail."""

    def __init__(self) -> None:
        self.ill: set[str] = set()
        self.hang = False
        self.got: list[tuple[str, list[str]]] = []
        self.tried: list[float] = []

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        return Sent("payload", "curl")

    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        if self.hang:
            await trio.sleep_forever()
        if target.name in self.ill:
            self.tried.append(trio.current_time())
            raise FailedError("503")
        self.got.append((target.name, [str(one["text"]) for one in events]))
        return self.compose(target, events)

    def texts(self, name: str) -> list[str]:
        return [text for target, texts in self.got for text in texts if target == name]


async def furnish(house: House, receivers: Receivers) -> Deliveries:
    for name in ("a", "b"):
        spec = TargetSpec(kind="webhook", attempts_max=3, retry_seconds=10.0)
        await house.catalog.notifications.put_target(TargetRecord(name=name, spec=spec, sealed=b""), new=True)
    deliveries = Deliveries(
        house.catalog.notifications, receivers, clock=house.clock, publish=house.publish, entropy=lambda _: b"\x80"
    )
    events = house.bus.subscribe("notify")
    house.add("notify", lambda seat: Notify(seat, events, deliveries, house.clock, deliveries))
    return deliveries


def tell(house: House, text: str) -> None:
    house.publish(Event(house.clock.now(), EventSource.SYSTEM, Severity.ERROR, "test.kind", text))


async def test_a_burst_comes_in_order_and_in_few_messages(house: House, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    await furnish(house, receivers)
    async with house.running():
        for number in range(50):
            tell(house, str(number))
        await trio.sleep(5)
    assert receivers.texts("a") == receivers.texts("b") == [str(number) for number in range(50)]


async def test_an_ill_target_is_tried_ever_later_then_disabled_and_loses_nothing(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    deliveries = await furnish(house, receivers)
    receivers.ill.add("a")
    async with house.running():
        tell(house, "one")
        await trio.sleep(600)
        tell(house, "two")
        await trio.sleep(60)
        first, second, third = receivers.tried
        assert 7 < second - first < 13 < third - second < 26
        assert not (await house.catalog.notifications.target("a")).enabled
        assert any("target a is disabled" in text for text in receivers.texts("b"))
        receivers.ill.clear()
        await house.catalog.notifications.steer("a", enabled=True)
        deliveries.wake()
        await trio.sleep(5)
    assert receivers.texts("a") == ["one", "two"]
    assert receivers.got[-1] == ("a", ["one", "two"]), "what waited is one message"


async def test_a_delivery_cut_off_by_a_crash_is_made_by_the_next_actor(house: House, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    await furnish(house, receivers)
    receivers.hang = True
    async with house.running():
        tell(house, "one")
        await trio.sleep(1)
        receivers.hang = False
        await house.kill("notify")
        await trio.sleep(5)
    assert receivers.texts("a") == ["one"]


class Odd(Receivers):
    """Target `a` cannot even compose its message."""

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        if target.name == "a":
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
        return super().compose(target, events)

    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        sent = self.compose(target, events)
        self.got.append((target.name, [str(one["text"]) for one in events]))
        return sent


async def test_a_message_that_cannot_be_composed_is_its_targets_trouble_alone(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Odd()
    await furnish(house, receivers)
    async with house.running():
        tell(house, "odd")
        await trio.sleep(1)
        found = {one.name: one.failures for one in await house.catalog.notifications.targets()}
    assert receivers.texts("b") == ["odd"]
    assert found["a"] >= 1
