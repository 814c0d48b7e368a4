"""Locks follow from the source: longer ones, of what sync brought, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ibs.core.names import format_time
from ibs.errors import NotFoundError, UsageError
from ibs.services.locking import keep_locks
from ibs.wire.datastore import SnapshotView
from ibs.wire.sync import PullStart
from ibs_tests.unit.services.test_copying import row

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = PullStart(remote="b", source="far")


@dataclass
class Here:
    """One snapshot here, its lock, and what the task was told."""

    view: SnapshotView | None
    until: datetime | None = None
    error: UsageError | None = None
    told: list[tuple[str, str]] = field(default_factory=list)

    async def snapshot_view(self, name: object) -> SnapshotView:
        if self.view is None:
            raise NotFoundError("not here")
        return self.view

    async def disk(self, work: Any, *arguments: object) -> Any:
        return work(*arguments)

    def found(self, _name: object) -> tuple[datetime, str] | None:
        return None if self.until is None else (self.until, "x@ibs")

    def lock(self, _name: object, until: datetime, _by: str, _now: datetime) -> None:
        if self.error is not None:
            raise self.error
        self.until = until

    async def keep(self, *there: SnapshotView) -> None:
        context = SimpleNamespace(pool=self, retained=SimpleNamespace(until=self.found, lock=self.lock))
        task: Any = SimpleNamespace(
            auth_id="root@ibs",
            log=lambda level, text: self.told.append((level, text)),
            warn=lambda text: self.told.append(("warning", text)),
        )
        datastore: Any = SimpleNamespace(context=context, snapshots=self)
        await keep_locks(task, datastore, REQUEST, there, NOW)


def at(days: float) -> str:
    return format_time(NOW + timedelta(days=days))


async def test_as_long_as_there_and_never_shorter() -> None:
    here = Here(row(brought=True))
    await here.keep(row(locked_until=at(2)))
    assert here.until == NOW + timedelta(days=2)
    await here.keep(row(locked_until=at(2)), row(locked_until=at(1)), row())
    assert (here.until, len(here.told)) == (NOW + timedelta(days=2), 1), "nothing new to lock"
    await here.keep(row(locked_until=at(3)))
    assert here.until == NOW + timedelta(days=3)


@pytest.mark.parametrize(
    "view",
    [None, row(brought=False), row(brought=True, manifest_digest="cd" * 32)],
    ids=["not here", "made here", "another one"],
)
async def test_only_what_sync_brought(view: SnapshotView | None) -> None:
    here = Here(view)
    await here.keep(row(locked_until=at(2)))
    assert (here.until, here.told) == (None, [])


async def test_what_cannot_be_locked_is_a_warning() -> None:
    here = Here(row(brought=True), error=UsageError("too long", hint="shorter"))
    await here.keep(row(locked_until="unknown"), row(locked_until=at(-1)), row(locked_until=at(2)))
    assert [level for level, _ in here.told] == ["warning", "warning"]
    assert "cannot tell" in here.told[0][1]
    assert "but not here: too long" in here.told[1][1]
