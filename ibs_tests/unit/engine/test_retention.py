"""Where retention is kept, and which policy is in force where."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.core.names import Namespace
from ibs.core.retention import Policy
from ibs.engine.datastore import Datastore
from ibs.engine.retention import RetentionRecord, effective
from ibs.errors import FormatError, NotFoundError, UsageError
from ibs_tests.support.engine import Box

WEEK, YEAR = Policy(keep_daily=7), Policy(keep_yearly=1, timezone="Europe/Vienna")


def ns(text: str) -> Namespace:
    return Namespace.parse(text)


async def test_without_any_nothing_is_in_force(datastore: Datastore) -> None:
    assert await datastore.retention.record() == RetentionRecord()
    assert effective(RetentionRecord(), ns("a")) is None
    with pytest.raises(NotFoundError):
        await datastore.retention.clear(ns(""))
    with pytest.raises(NotFoundError):
        await datastore.retention.clear(ns("a"))


async def test_the_most_specific_wins_and_it_is_kept_in_the_store(box: Box, datastore: Datastore) -> None:
    kept = await datastore.retention.set(ns(""), WEEK, "root@ibs")
    assert (kept.by, kept.time) == ("root@ibs", "2026-01-01T00:00:00Z")
    await datastore.retention.set(ns("a"), YEAR, "root@ibs", more_than_half=True)
    await datastore.retention.set(ns("a/b/c"), Policy(), "root@ibs")
    datastore = await box.kill(datastore)
    record = await datastore.retention.record()
    levels = {name: effective(record, ns(name)) for name in ("", "x/y", "a", "a/b", "a/b/c", "a/b/c/d", "ab")}
    assert {name: (found.level, found.policy) for name, found in levels.items() if found} == {
        "": ("datastore", WEEK),
        "x/y": ("datastore", WEEK),
        "a": ("namespace a", YEAR),
        "a/b": ("namespace a", YEAR),
        "a/b/c": ("namespace a/b/c", Policy()),
        "a/b/c/d": ("namespace a/b/c", Policy()),
        "ab": ("datastore", WEEK),
    }
    assert levels["a"] is not None
    assert levels["a"].more_than_half
    await datastore.retention.clear(ns("a"))
    await datastore.retention.clear(ns(""))
    record = await datastore.retention.record()
    assert effective(record, ns("a/b")) is None
    assert list(record.namespaces) == ["a/b/c"]


async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError):
        await datastore.retention.set(ns(""), Policy(keep_daily=-1), "root@ibs")
    monkeypatch.setattr(limits, "RETENTION_NAMESPACES_MAX", 1)
    await datastore.retention.set(ns("a"), WEEK, "root@ibs")
    await datastore.retention.set(ns("a"), YEAR, "root@ibs")
    with pytest.raises(UsageError):
        await datastore.retention.set(ns("b"), WEEK, "root@ibs")
    assert list((await datastore.retention.record()).namespaces) == ["a"]


@pytest.mark.parametrize(
    "data", [b"nonsense", b'{"namespaces":{"../x":{"policy":{}}}}', b'{"datastore":{"policy":{"timezone":"Mars"}}}']
)
async def test_a_damaged_record_is_an_error_until_the_datastores_is_set_anew(datastore: Datastore, data: bytes) -> None:
    datastore.store.records.write("retention.json", data)
    with pytest.raises(FormatError):
        await datastore.retention.record()
    with pytest.raises(FormatError):
        await datastore.retention.set(ns("a"), WEEK, "root@ibs")
    await datastore.retention.set(ns(""), WEEK, "root@ibs")
    assert (await datastore.retention.record()).datastore is not None
