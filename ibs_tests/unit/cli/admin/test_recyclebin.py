"""`ironcore-backup bin …`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.lifecycle import BinEmptied, BinView, SnapshotRef
from ibs_tests.support.fakeapi import install, invoke

NAME = "host/a/2026-11-22T19:00:00Z"
ENTRY = BinView(
    entry="e1",
    snapshot=NAME,
    owner="a@ibs",
    forgotten="2026-11-22T20:00:00Z",
    by="root@ibs",
    why="pruned: keep-last 2 (UTC)",
    due="2026-11-29T20:00:00Z",
    plain_bytes=1,
    waits="the clock jumped",
)


def test_list_says_when_each_goes_and_what_holds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/datastores/main/bin"] = [ENTRY]
    shown = invoke(root, "bin", "list", "main").output
    for words in (NAME, "2026-11-29T20:00:00Z", "pruned: keep-last 2", "nothing goes for good at present"):
        assert words in shown
    api.answers["GET", "/datastores/main/bin"] = []
    assert "the bin is empty" in invoke(root, "bin", "list", "main").output


@pytest.mark.parametrize("noun", ["bin", "snapshot"])
def test_undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noun: str) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/bin/undo"] = SnapshotRef(snapshot=NAME)
    assert f"snapshot {NAME} is back" in invoke(root, noun, "undo", "main", NAME).output
    assert api.asked[0][2].entry == NAME


def test_empty_takes_one_or_says_that_it_is_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/bin/empty"] = BinEmptied(removed=[NAME])
    for wrong in ((), (NAME, "--all")):
        assert invoke(root, "bin", "empty", "main", *wrong).exit_code == 2
    assert api.asked == []
    assert "1 snapshots were removed for good" in invoke(root, "bin", "empty", "main", "--all").output
    invoke(root, "bin", "empty", "main", NAME)
    assert [asked[2].entry for asked in api.asked] == ["", NAME]
