"""Outbox, targets, groups and rules."""

from __future__ import annotations

import sqlite3

import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.notifications import NotificationTable, TargetRecord
from ibs.core import limits_notify
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.notification import GroupSpec, RuleSpec, TargetSpec

EVENT = {"text": "one", "fields": {}}
ROW = (1, "error", "system", "test.kind", "one", "{}")


async def furnished(catalog: Catalog) -> NotificationTable:
    table = catalog.notifications
    for name in ("a", "b"):
        await table.add_target(TargetRecord(name=name, spec=TargetSpec(kind="webhook"), sealed=b"x"))
    return table


async def test_inbox_and_outbox_get_an_event_together_or_not_at_all(catalog: Catalog) -> None:
    table = await furnished(catalog)
    assert await table.keep(ROW, EVENT, lambda *_: ["a"]) == ["a"]
    assert [one.event for one in await table.due("a")] == [EVENT]
    assert await table.due("b") == []

    def broken(*_: object) -> list[str]:
        raise NotFoundError("no")

    with pytest.raises(NotFoundError):
        await table.keep(ROW, EVENT, broken)
    assert len(await catalog.inbox.list()) == 1


async def test_failures_count_until_the_target_is_enabled_again(catalog: Catalog) -> None:
    table = await furnished(catalog)
    await table.keep(ROW, EVENT, lambda *_: ["a"])
    (one,) = await table.due("a")
    await table.failed("a", [one.id], error="503", payload="p", command="c", retry_ns=7, disable=False)
    record = await table.target("a")
    assert (record.enabled, record.failures, record.retry_ns) == (True, 1, 7)
    await table.failed("a", [one.id], error="503", payload="p", command="c", retry_ns=9, disable=True)
    record = await table.target("a")
    assert (record.enabled, record.disabled_why) == (False, "503")
    assert await table.waiting("a") == 1
    await table.steer("a", enabled=True)
    record = await table.target("a")
    assert (record.enabled, record.failures, record.retry_ns) == (True, 0, 0)
    await table.sent("a", [one.id], "p2", "c2")
    (row,) = await table.history("a")
    assert (row.state, row.attempts, row.payload) == ("sent", 3, "p2")


async def test_names_are_checked_where_they_are_used(catalog: Catalog) -> None:
    table = await furnished(catalog)
    with pytest.raises(ConflictError):
        await table.add_target(TargetRecord(name="a", spec=TargetSpec(kind="webhook"), sealed=b""))
    with pytest.raises(NotFoundError):
        await table.put_word(GroupSpec(name="g", targets=["zzz"]))
    with pytest.raises(NotFoundError):
        await table.put_word(RuleSpec(name="r", groups=["g"]))
    await table.put_word(GroupSpec(name="g", targets=["a"]))
    await table.put_word(RuleSpec(name="r", groups=["g"]))
    assert [one.name for one in await table.words(GroupSpec)] == ["g"]
    await table.remove_word(RuleSpec, "r")
    with pytest.raises(NotFoundError):
        await table.remove_word(RuleSpec, "r")


async def test_what_waits_for_a_removed_target_is_dropped(catalog: Catalog) -> None:
    table = await furnished(catalog)
    await table.keep(ROW, EVENT, lambda *_: ["a"])
    await table.remove_target("a")
    assert [row.state for row in await table.history("a")] == ["dropped"]


async def test_history_is_bounded_when_nothing_is_ever_delivered(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_notify, "WAITING_MAX", 2)
    monkeypatch.setattr(limits_notify, "HISTORY_ROWS_MAX", 4)
    table = await furnished(catalog)
    for _ in range(10):
        await table.keep(ROW, EVENT, lambda *_: ["a"])
    assert [row.state for row in await table.history("a")] == ["waiting"] * 2 + ["dropped"] * 2
    for _ in range(10):
        number = await table.note("b", EVENT, 1, "failed", "503")
        await table.describe("b", number, "payload", "")
    rows = await table.history()
    assert [row.state for row in rows] == ["failed"] * 4 + ["waiting"] * 2


async def test_a_message_of_many_events_is_kept_once_and_replaced_by_the_next_attempt(catalog: Catalog) -> None:
    table = await furnished(catalog)
    for _ in range(5):
        await table.keep(ROW, EVENT, lambda *_: ["a"])
    ids = [one.id for one in await table.due("a")]
    await table.failed("a", ids[:3], error="503", payload="first", command="c", retry_ns=0, disable=False)
    assert [one.payload for one in await table.due("a")] == ["first"] * 3 + [""] * 2
    await table.sent("a", ids, "second", "c")
    rows = await table.history("a")
    assert {(row.payload, row.command, row.chars) for row in rows} == {("second", "c", 6)}
    assert await kept(catalog) == ["second"]


async def test_payloads_have_a_cap_each_and_for_a_target(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_notify, "MESSAGES_KEPT_MAX", 3)
    table = await furnished(catalog)
    for number in range(5):
        await table.keep(ROW, EVENT, lambda *_: ["a", "b"])
        for name in ("a", "b"):
            (one,) = await table.due(name)
            await table.sent(name, [one.id], f"{number}", "c")
    assert [row.payload for row in await table.history("a")] == ["4", "3", "2", "", ""]
    row = (await table.history("b"))[0]
    await table.describe("b", row.id, "x" * (limits_notify.PAYLOAD_CHARS_MAX + 9), "c")
    row = (await table.history("b"))[0]
    assert (len(row.payload), row.chars) == (limits_notify.PAYLOAD_CHARS_MAX, limits_notify.PAYLOAD_CHARS_MAX + 9)
    await table.remove_target("b")
    assert await kept(catalog) == ["2", "3", "4"]


async def kept(catalog: Catalog) -> list[str]:
    def work(connection: sqlite3.Connection) -> list[str]:
        return [row[0] for row in connection.execute("SELECT payload FROM notification_messages ORDER BY id")]

    return await catalog.database.read(work)
