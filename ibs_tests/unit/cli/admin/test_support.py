"""`support-bundle`: it never overwrites. That it brings a bundle is in ibs_tests/e2e/test_support_bundle.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs_tests.support.fakeapi import install, invoke


def test_a_file_that_is_there_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    path = tmp_path / "kept"
    path.write_text("mine")
    done = invoke(root, "support-bundle", "--output", str(path))
    assert done.exit_code == 1
    assert path.read_text() == "mine"
    assert api.asked == []
