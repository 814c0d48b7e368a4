"""Counters and lines: sums are right, lines bounded, nothing said twice."""

from __future__ import annotations

import pytest

from ibs.client.backup.figures import STAGES, Figures, Notebook
from ibs.core import limits
from ibs.sources.notes import Note


def test_stages_add_up() -> None:
    figures = Figures()
    figures.add("read", busy=0.5, size=10, items=1)
    figures.add("read", busy=0.25, wait=1.0, size=5)
    wire = figures.wire()
    assert set(wire) == set(STAGES)
    assert (wire["read"].busy_seconds, wire["read"].wait_seconds) == (0.75, 1.0)
    assert (wire["read"].bytes, wire["read"].items) == (15, 1)


def test_the_stages_that_the_page_names_are_there() -> None:
    assert {"read", "chunk", "hash", "compress", "encrypt", "send", "wait"} <= set(STAGES)


def test_progress_shows_any_path() -> None:
    figures = Figures(archive="a.tree", path=b"latin-\xe9", files=3)
    progress = figures.progress(2.0)
    assert progress.path == "latin-\udce9"
    assert (progress.archive, progress.files, progress.seconds) == ("a.tree", 3, 2.0)


def test_lines_are_taken_once_and_kept() -> None:
    notebook = Notebook(Figures())
    for number in range(5):
        notebook.note(Note("warning" if number % 2 else "info", f"{number}", "x"))
    assert [line.note.text for line in notebook.take(3)] == ["0", "1", "2"]
    assert [line.note.text for line in notebook.take(3)] == ["3", "4"]
    assert notebook.take(3) == []
    assert (len(notebook.kept), notebook.warnings) == (5, 2)
    assert notebook.warning_lines() == ("x: 1", "x: 3")


def test_lines_past_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKUP_NOTES_MAX", 2)
    notebook = Notebook(Figures())
    for _ in range(5):
        notebook.note(Note("warning", "x"))
    assert (len(notebook.kept), notebook.dropped, notebook.warnings) == (2, 3, 5)


def test_lines_outside_of_archives_have_no_entry() -> None:
    figures = Figures()
    notebook = Notebook(figures)
    figures.begin("a.tree")
    figures.entries = 5
    notebook.note(Note("warning", "changed", "secret"))
    figures.end()
    notebook.note(Note("info", "done"))
    first, last = notebook.take()
    assert first.private == "a.tree entry 5: changed"
    assert last.private == "done"
