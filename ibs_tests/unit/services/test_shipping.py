"""Figures go at their pace, log lines wait and are not doubled, one target's trouble is its own and told once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from ibs.catalog.notifications import TargetRecord
from ibs.core import limits_notify
from ibs.errors import FailedError, NoSpace
from ibs.log import get_logger
from ibs.services.shipping import Shipping
from ibs.wire.notification import TargetSpec
from ibs_tests.unit.services.conftest import House

LOG = get_logger("gc")


class Site:
    """Targets, who carries to them, and the figures."""

    def __init__(self) -> None:
        self.known: list[TargetRecord] = []
        self.ill: dict[str, Exception] = {}
        self.got: list[tuple[float, str, str]] = []
        self.unreadable = False

    async def targets(self) -> Sequence[TargetRecord]:
        if self.unreadable:
            raise NoSpace("/state", "bytes")
        return self.known

    async def ship(self, target: TargetRecord, body: bytes) -> None:
        if target.name in self.ill:
            raise self.ill[target.name]
        self.got.append((trio.current_time(), target.name, body.decode()))

    async def text(self) -> bytes:
        return b"as text\n"

    async def lines(self) -> bytes:
        return b"as lines\n"

    def add(self, name: str, kind: str = "metric", *, every: int = 0, logs: str = "", enabled: bool = True) -> None:
        spec = TargetSpec(kind=kind, url="http://x", figures_seconds=every, logs=logs)
        self.known = [*self.known, TargetRecord(name=name, spec=spec, sealed=b"", enabled=enabled)]

    def of(self, name: str) -> list[str]:
        return [body for _, target, body in self.got if target == name]


@asynccontextmanager
async def shipping(site: Site, house: House) -> AsyncIterator[Shipping]:
    made = Shipping(site, site, lambda: site, "node1", clock=house.clock, publish=house.publish)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.sleep(0.01)
        yield made
        nursery.cancel_scope.cancel()


async def test_each_gets_what_it_asked_for_at_its_pace(house: House, autojump_clock: MockClock) -> None:
    site = Site()
    site.add("slow", every=60)
    site.add("gate", "pushgateway", every=20)
    site.add("off", every=5, enabled=False)
    site.add("events")
    async with shipping(site, house):
        await trio.sleep(119)
    assert site.of("slow") == ["as lines\n"] * 2
    assert site.of("gate") == ["as text\n"] * 6
    assert {name for _, name, _ in site.got} == {"slow", "gate"}


async def test_log_lines_wait_for_a_target_that_is_ill_and_come_once(house: House, autojump_clock: MockClock) -> None:
    site = Site()
    site.add("logs", logs="warning")
    async with shipping(site, house):
        LOG.info("too mild")
        LOG.warning("first", count=1)
        await trio.sleep(11)
        site.ill["logs"] = FailedError("503")
        LOG.error("second")
        await trio.sleep(30)
        LOG.error("third")
        site.ill.clear()
        await trio.sleep(30)
    whole = "".join(site.of("logs"))
    assert [whole.count(f'event="{word}"') for word in ("too mild", "first", "second", "third")] == [0, 1, 1, 1]
    assert whole.index("second") < whole.index("third")
    assert whole.startswith('ibs_log,server=node1,role=gc,level=warning event="first",fields="{\\"count\\": 1}" ')
    told = [event.kind for event in house.events]
    assert told == ["notify.shipping-failed", "notify.shipping-well"]


async def test_of_too_many_lines_the_newest_stay(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_notify, "LINES_KEPT_MAX", 5)
    monkeypatch.setattr(limits_notify, "LINES_SENT_MAX", 3)
    site = Site()
    site.add("logs", logs="error")
    async with shipping(site, house):
        for number in range(20):
            LOG.error(f"line {number}")
        await trio.sleep(31)
    found = "".join(site.of("logs"))
    assert [number for number in range(20) if f'"line {number}"' in found] == [15, 16, 17, 18, 19]
    assert all(body.count("\n") <= 3 for body in site.of("logs"))


async def test_one_that_fails_oddly_and_a_catalog_that_fails_hold_nobody_up(
    house: House, autojump_clock: MockClock
) -> None:
    site = Site()
    site.add("odd", every=5)
    site.add("good", every=5)
    site.ill["odd"] = ValueError("a defect")
    async with shipping(site, house):
        await trio.sleep(12)
        site.unreadable = True
        await trio.sleep(12)
        site.unreadable = False
        before = len(site.of("good"))
        await trio.sleep(12)
    assert before >= 2
    assert len(site.of("good")) > before
    assert [event.kind for event in house.events] == ["notify.shipping-failed"]
    assert "ValueError" in house.events[0].text
