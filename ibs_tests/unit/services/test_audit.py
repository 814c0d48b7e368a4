"""The audit log as a service: group commit, the head, bounds on refusals, and nothing unaudited on a full disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing

from ibs.catalog.catalog import Catalog, open_catalog
from ibs.core import limits
from ibs.core.audit import Outcome
from ibs.core.events import Event, EventSource, Severity
from ibs.errors import NoSpace, NotAuthenticated, NotFoundError
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool
from ibs.services.audit import HEAD, Audit


async def started(catalog: Catalog) -> Audit:
    audit = Audit(catalog.state / "audit", catalog.settings, pool=InlinePool(), clock=LoopClock())
    await audit.open()
    return audit


async def note(audit: Audit, outcome: Outcome = Outcome.OK, **more: object) -> None:
    error = NotAuthenticated("the credential is not valid") if outcome is Outcome.REFUSED else None
    await audit.note(auth_id="a@ibs", peer="::1", action="acl_grant", target="/x", outcome=outcome, error=error, **more)


async def test_rows_of_many_callers_are_one_chain(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(note, audit)
        check = await audit.verify()
        assert (check.ok, check.rows) == (True, 20)
        assert await catalog.settings.get(HEAD) == f"20 {check.head}"
        again = await started(catalog)
        await note(again, after={"name": "n", "secret": "hush"})
        assert (await again.verify()).rows == 21
        shown = await again.show(21)
        assert shown.after["name"] == "n"
        assert "hush" not in str(shown)
        with pytest.raises(NotFoundError):
            await again.show(99)
        assert b"".join([piece async for piece in again.export()]).count(b"\n") == 21


async def test_a_cut_end_stays_to_be_seen(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        for _ in range(3):
            await note(audit)
        [path] = (catalog.state / "audit").glob("*.jsonl")
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
        again = await started(catalog)
        await note(again)
        check = await again.verify()
        assert (check.ok, check.rows, check.line) == (False, 2, 3)
        assert "rows are missing" in check.problem


async def test_a_rewritten_end_stays_to_be_seen(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        await note(audit)
        head = await catalog.settings.get(HEAD) or ""
        forged = tmp_path / "forged"
        async with open_catalog(forged, inline=True) as other:
            liar = await started(other)
            await liar.note(auth_id="b@ibs", peer="", action="x", target="/", outcome=Outcome.OK)
        [path] = (catalog.state / "audit").glob("*.jsonl")
        path.write_bytes((forged / "audit" / path.name).read_bytes())
        again = await started(catalog)
        assert not (await again.verify()).ok
        await note(again)
        assert not (await again.verify()).ok
        assert head != await catalog.settings.get(HEAD)


async def test_refusals_beyond_the_bound_are_counted(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        for _ in range(limits.AUDIT_REFUSALS_PER_MINUTE + 50):
            await note(audit, Outcome.REFUSED)
        assert (await audit.verify()).rows == limits.AUDIT_REFUSALS_PER_MINUTE
        await audit.close()
        [last] = await audit.find({"outcome": "refused"}, 1)
        assert (last.count, last.code) == (50, "not-authenticated")


async def test_the_end_of_a_collection_is_a_row(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async def events() -> AsyncIterator[Event]:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        for kind, state in (("gc", "OK"), ("prune", "FAILED"), ("backup", "OK")):
            fields = {"type": kind, "state": state, "id": "main", "auth_id": "root@ibs", "upid": "u", "message": ""}
            yield Event(now, EventSource.DATASTORE, Severity.INFO, "task.ended", "x", fields)

    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        await audit.watch(events())
        seen = [(row.action, row.target, row.outcome, row.auth_id) for row in await audit.find({}, 9)]
        assert seen == [("task_prune", "main", "failed", "root@ibs"), ("task_gc", "main", "ok", "root@ibs")]


async def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        audit = await started(catalog)
        await note(audit)

        def full(*_arguments: object) -> None:
            raise NoSpace("the state folder", "bytes")

        monkeypatch.setattr(audit._files, "keep_reserve", full)
        with pytest.raises(NoSpace, match="changes are refused, since the audit log cannot be written"):
            await audit.admit()
        monkeypatch.setattr(audit._files, "append", full)
        with pytest.raises(NoSpace):
            await note(audit)
        monkeypatch.undo()
        await audit.admit()
        await note(audit)
        assert [row.n for row in await audit.find({}, 9)] == [2, 1]
        assert (await audit.verify()).ok
