"""Reports: in time, every line once, names kept private where they must be."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ibs.client.backup.figures import Figures, Notebook, Progress
from ibs.client.backup.reporter import Reporter
from ibs.core import limits
from ibs.errors import SessionLost
from ibs.runtime.clock import ManualClock
from ibs.sources.notes import Note
from ibs.wire.session import StageReport


class Reports:
    """Keeps reports; may fail."""

    def __init__(self) -> None:
        self.got: list[StageReport] = []
        self.failure: Exception | None = None

    async def report(self, report: StageReport) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.got.append(report)


def reporter(private: bool = False) -> tuple[Reporter, Reports, ManualClock, Notebook, Figures, list[Progress]]:
    figures = Figures()
    reports, clock, notebook, seen = Reports(), ManualClock(), Notebook(figures), list[Progress]()
    made = Reporter(reports, clock, figures, notebook, private=private, progress=seen.append)  # type: ignore[arg-type]
    return made, reports, clock, notebook, figures, seen


async def pass_time(clock: ManualClock, seconds: float) -> None:
    for _ in range(int(seconds / limits.BACKUP_PROGRESS_SECONDS)):
        await trio.testing.wait_all_tasks_blocked()
        clock.advance(limits.BACKUP_PROGRESS_SECONDS)
    await trio.testing.wait_all_tasks_blocked()


async def test_reports_come_well_within_the_heartbeat() -> None:
    made, reports, clock, _, figures, seen = reporter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await pass_time(clock, limits.SESSION_HEARTBEAT_SECONDS)
        assert len(reports.got) >= 2
        figures.bytes_seen = 77
        last = await made.stop()
    assert (last.done_bytes, last.total_bytes) == (77, 0)
    assert seen[-1].bytes_seen == 77


async def test_a_total_is_never_less_than_what_is_done() -> None:
    made, reports, _, _, figures, _ = reporter()
    figures.total_bytes, figures.bytes_seen = 100, 150
    await made.report()
    assert reports.got[0].total_bytes == 150


async def test_every_line_is_told_once_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKUP_REPORT_LINES", 3)
    made, reports, _, notebook, _, _ = reporter()
    monkeypatch.setattr(notebook, "take", lambda: Notebook.take(notebook, 3))
    for number in range(10):
        notebook.note(Note("info", f"{number}"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        last = await made.stop()
    assert [len(report.lines) for report in reports.got] == [3, 3, 3]
    assert [line.text for report in [*reports.got, last] for line in report.lines] == [
        str(number) for number in range(10)
    ]


@pytest.mark.parametrize(("private", "text"), [(False, "etc/shadow: changed"), (True, "etc.tree entry 7: changed")])
async def test_names_are_told_only_where_they_may(private: bool, text: str) -> None:
    made, reports, _, notebook, figures, _ = reporter(private)
    figures.entries = 100
    figures.begin("etc.tree")
    figures.entries += 7
    notebook.note(Note("warning", "changed", "etc/shadow"))
    await made.report()
    assert reports.got[0].lines[0].text == text
    assert reports.got[0].lines[0].level == "warning"


async def test_a_lost_session_is_told_by_the_reporter() -> None:
    made, reports, clock, _, _, _ = reporter()
    reports.failure = SessionLost("expired")
    with pytest.RaisesGroup(SessionLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await pass_time(clock, limits.BACKUP_REPORT_SECONDS + 1)
            await trio.sleep_forever()
