"""Lines of a bundle; the whole of it is in ibs_tests/e2e/test_support_bundle.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import limits
from ibs.errors import UsageError
from ibs.services.bundle import Support, _encoded, _tail
from ibs.services.bundle_veil import Veil
from ibs.wire.support import BundleRequest
from ibs_tests.support.control import FakeContext


def test_each_line_has_time_and_source() -> None:
    found = [{"name": "x", "comment": "the boss's", "token_secret": "hush"}, "text of\ntwo lines"]
    lines = _encoded("s", "t", found, Veil(names=False)).decode().splitlines()
    assert [line[:4] for line in lines] == ["t s "] * 3
    assert "boss" not in lines[0]
    assert "hush" not in lines[0]


def test_the_end_of_a_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUNDLE_LOG_BYTES", 12)
    (tmp_path / "x.log").write_text("first\nsecond\nthird\n")
    assert _tail(tmp_path / "x.log") == ["third"]


async def test_too_many_tasks_are_refused() -> None:
    support = Support(FakeContext, spawn=lambda _work: None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="more than"):
        await support.start("a@ibs", BundleRequest(tasks=["x"] * (limits.BUNDLE_TASKS_MAX + 1)))
