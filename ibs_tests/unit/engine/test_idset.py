"""The set of ids that a run remembers."""

from __future__ import annotations

import pytest

from ibs.core.ids import chunk_id
from ibs.engine import idset as module
from ibs.engine.idset import IdSet


def ids(*numbers: int) -> list[bytes]:
    return [chunk_id(number.to_bytes(8, "big")) for number in numbers]


def test_it_finds_what_was_added_over_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECENT_IDS_MAX", 10)
    monkeypatch.setattr(module, "_RUNS_MAX", 3)
    found = IdSet()
    for start in range(0, 203, 7):
        found.add(ids(*range(start, start + 7)))
    assert len(found) == 203
    assert all(chunk in found for chunk in ids(*range(203)))
    assert not any(chunk in found for chunk in ids(*range(203, 400)))
