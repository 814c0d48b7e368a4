"""`ironcore-backup backup run`: bare paths get an archive name; the request carries every option."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.cli.admin.backup import source_of
from ibs.wire.common import TaskStarted
from ibs.wire.system import BackupRun
from ibs_tests.support.fakeapi import install, invoke


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/etc", "etc.tree:/etc"),
        ("/", "root.tree:/"),
        ("/srv/my data", "my_data.tree:/srv/my data"),
        ("a.img:/x", "a.img:/x"),
    ],
)
def test_archive_names(path: str, source: str) -> None:
    assert source_of(path) == source


def test_run_sends_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/backups"] = TaskStarted(upid="U")
    options = ("--store", "main", "--path", "/etc", "--exclude", "*.tmp", "--backup-id", "me", "--detach")
    options = (*options, "--reread", "--reread-every", "7", "--host", "web01", "--pre-hook", "a", "--post-hook", "b")
    assert invoke(root, "backup", "run", *options).output.strip() == "U"
    wanted = BackupRun(
        store="main",
        sources=["etc.tree:/etc"],
        backup_id="me",
        exclude=["*.tmp"],
        reread=True,
        reread_every=7,
        host="web01",
        pre_hook="a",
        post_hook="b",
    )
    assert api.asked[0][2] == wanted
    assert invoke(root, "backup", "run", "--store", "main", "--path", "bad.zip:/etc").exit_code == 2
