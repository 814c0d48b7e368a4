"""The store's clock: it never goes back, believes no jump, and waits for somebody to say what is true."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ibs.engine.storetime import ClockRecord, Moment, StoreTime, advance, begin, confirm
from ibs.runtime.clock import START, ManualClock
from ibs_tests.support.engine import Box

HOUR = 3600
DAY = 24 * HOUR


def at(wall: int, monotonic: float | None = None, boot: str = "b1") -> Moment:
    return Moment(wall, wall if monotonic is None else monotonic, boot)


def test_it_counts_what_the_machine_counts() -> None:
    record = begin(at(1000, 5.0))
    for step in range(1, 30):
        record = advance(record, at(1000 + step // 2, 5.0 + step * 0.5))
    assert (record.seconds, record.frozen) == (1014, "")


def test_fractions_of_a_second_are_not_lost() -> None:
    record = begin(at(0, 0.0))
    for step in range(1, 1001):
        record = advance(record, at(step // 10, step * 0.1))
    assert record.seconds == 100


@pytest.mark.parametrize("jump", [HOUR + 1, DAY, -HOUR - 1, -40 * DAY])
def test_a_jump_of_the_wall_clock_freezes_it(jump: int) -> None:
    record = advance(begin(at(10**9, 0.0)), at(10**9 + 60 + jump, 60.0))
    assert "jumped" in record.frozen
    assert record.seconds == 10**9 + 60  # what the machine counted did pass
    later = advance(record, at(10**9 + 90 * DAY, 90.0 * DAY))
    assert (later.seconds, later.frozen) == (record.seconds, record.frozen)


@pytest.mark.parametrize("jump", [HOUR, 60, -HOUR, -60])
def test_a_small_step_changes_nothing(jump: int) -> None:
    record = advance(begin(at(10**9, 0.0)), at(10**9 + 60 + jump, 60.0))
    assert (record.seconds, record.frozen) == (10**9 + 60, "")


def test_many_small_steps_are_one_jump() -> None:
    record = begin(at(10**9, 0.0))
    for step in range(1, 10):
        record = advance(record, at(10**9 + step * 1800, float(step)))
    assert record.frozen


def test_days_off_within_one_boot_are_believed() -> None:
    record = advance(begin(at(10**9, 100.0)), at(10**9 + 3 * DAY, 100.0 + 3 * DAY))
    assert (record.seconds, record.frozen) == (10**9 + 3 * DAY, "")


def test_after_another_boot_an_hour_is_believed_and_not_more() -> None:
    record = begin(at(10**9, 10**6))
    assert advance(record, at(10**9 + HOUR, 5.0, "b2")).seconds == 10**9 + HOUR
    frozen = advance(record, at(10**9 + 3 * DAY, 5.0, "b2"))
    assert "the machine was off for 3 d 00 h" in frozen.frozen
    assert frozen.seconds == 10**9
    back = advance(record, at(10**9 - 60, 5.0, "b2"))
    assert (back.seconds, back.frozen) == (10**9, "")
    assert advance(record, at(10**9 - DAY, 5.0, "b2")).frozen


def test_without_a_known_boot_the_monotone_clock_proves_nothing() -> None:
    record = begin(at(10**9, 0.0, ""))
    assert advance(record, at(10**9 + 3 * DAY, 3.0 * DAY, "")).frozen


def test_confirmed_it_follows_the_wall_clock_but_never_back() -> None:
    frozen = ClockRecord(seconds=10**9, frozen="x")
    forward = confirm(frozen, at(10**9 + 3 * DAY, 0.0), "root@ibs")
    assert (forward.seconds, forward.frozen, forward.confirmed_by) == (10**9 + 3 * DAY, "", "root@ibs")
    back = confirm(frozen, at(10**9 - 3 * DAY, 0.0), "root@ibs")
    assert back.seconds == 10**9
    later = advance(back, at(10**9 - 3 * DAY + 60, 60.0))
    assert (later.seconds, later.frozen) == (10**9 + 60, "")


async def test_it_is_kept_in_the_store(box: Box) -> None:
    datastore = await box.open()
    time = datastore.context.time
    assert time.now() == int(START.timestamp())
    box.clock.advance(DAY)
    assert time.keep_sometimes() is False
    box.clock.advance(10)
    said = time.now()
    datastore.store.close()
    box.clock = ManualClock(START + timedelta(days=30))
    datastore = await box.open()
    assert "off for 29 d" in datastore.context.time.frozen
    assert datastore.context.time.now() >= said - 10
    await datastore.expire()
    assert box.kinds().count("datastore.clock-frozen") == 1
    await datastore.expire()
    assert box.kinds().count("datastore.clock-frozen") == 1
    datastore.context.time.confirm("root@ibs")
    assert datastore.context.time.frozen == ""
    datastore.store.close()
    assert (await box.open()).context.time.now() == int((START + timedelta(days=30)).timestamp())


async def test_it_begins_once_whatever_the_wall_clock_does_next(box: Box) -> None:
    before = (await box.open()).context.time.now()
    box.close()  # killed, before anybody had a reason to keep it
    box.clock = ManualClock(START + timedelta(days=3))
    time = (await box.open()).context.time
    assert time.now() == before
    assert "3 d" in time.frozen


async def test_an_unreadable_record_freezes_it(box: Box) -> None:
    datastore = await box.open()
    datastore.store.records.write("clock.json", b"nonsense")
    datastore.context.time.load()
    assert "cannot be read" in datastore.context.time.frozen


async def test_times_are_shown_as_the_wall_clock_will_show_them(box: Box) -> None:
    time: StoreTime = (await box.open()).context.time
    box.clock.advance(100)
    assert time.wall(time.now() + 60) == box.clock.now() + timedelta(seconds=60)
