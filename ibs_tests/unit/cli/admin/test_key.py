"""`key`: what is sent, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.core import publickey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.wire.keys import KeyPolicy, KeyRegister, KeyScope, KeySnapshots, KeyView
from ibs_tests.support.fakeapi import install, invoke

KEYS = DataKeys.from_root(bytes(32))
NAME = hex_fingerprint(KEYS.fingerprint)
PUBLIC = publickey.describe(KEYS, "web01")
SCOPE = KeyScope(datastore="main", namespace="web", added="2026-01-01T00:00:00Z", added_by="a@ibs")
ROW = KeyView(fingerprint=NAME, comment="web01", state="active", scopes=[SCOPE], signer=PUBLIC.signer)
NEEDED = [
    KeySnapshots(
        datastore="main",
        count=12,
        snapshots=[f"host/a/{number}" for number in range(12)],
        groups=3,
        newest_bytes=5 << 30,
    ),
    KeySnapshots(datastore="away", offline="not mounted"),
]


def test_register_list_and_rotate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/keys"] = [ROW]
    api.answers["POST", "/keys"] = ROW
    file = tmp_path / "web01.pub"
    file.write_bytes(publickey.encode(PUBLIC))
    shown = invoke(root, "key", "list").output
    assert "main:web" in shown
    assert NAME[:23] in shown
    done = invoke(root, "key", "register", str(file), "--datastore", "main", "--ns", "web")
    assert f"key {NAME} is registered for main:web" in done.output
    assert api.asked[-1][2] == KeyRegister(key=PUBLIC, datastore="main", namespace="web")
    api.answers["GET", "/keys/aa:bb"] = KeyView(
        fingerprint=NAME, state="active", scopes=[SCOPE], signer=PUBLIC.signer, needed_by=NEEDED
    )
    rotated = invoke(root, "key", "rotate", "aa:bb", str(file)).output
    assert "the first backup of 3 groups with the new key reads and sends everything, 5.0 GiB" in rotated
    assert "datastore away could not be asked what this costs: not mounted" in rotated
    assert "key retire aa:bb" in rotated
    assert api.asked[-1][2] == KeyRegister(key=PUBLIC, replaces="aa:bb")


def test_a_file_that_is_none_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = install(monkeypatch, tmp_path)
    missing = invoke(root, "key", "register", str(tmp_path / "none"))
    assert missing.exit_code == 2
    assert "cannot be read" in missing.output
    (tmp_path / "bad").write_bytes(b"\0" * 10_000)
    assert "at most 4096 bytes" in invoke(root, "key", "register", str(tmp_path / "bad")).output
    assert not api.asked


def test_show_retire_export_and_remove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    full = KeyView(fingerprint=NAME, state="retired", scopes=[SCOPE], signer=PUBLIC.signer, needed_by=NEEDED)
    api.answers["GET", "/keys/aa"] = ROW
    api.answers["POST", "/keys/aa/retire"] = full
    api.answers["GET", "/keys/aa/public"] = PUBLIC
    api.answers["DELETE", "/keys/aa"] = None
    assert "no snapshot needs this key" in invoke(root, "key", "show", "aa").output
    shown = invoke(root, "key", "retire", "aa").output
    assert "12 snapshots of datastore main can be read with this key only" in shown
    assert "and 2 more" in shown
    assert "datastore away could not be asked: not mounted" in shown
    invoke(root, "key", "retire", "aa", "--force")
    assert api.asked[-1] == ("POST", "/keys/aa/retire", {"force": "1"})
    assert publickey.decode(invoke(root, "key", "export", "aa").output.encode()) == PUBLIC
    assert "key aa is forgotten" in invoke(root, "key", "remove", "aa").output


def test_policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    row = KeyPolicy(datastore="main", namespace="web", set="2026-01-01T00:00:00Z", set_by="a@ibs")
    api.answers["GET", "/key-policies"] = [row]
    api.answers["POST", "/key-policies"] = row
    api.answers["DELETE", "/key-policies"] = None
    assert "main:web" in invoke(root, "key", "policy", "list").output
    done = invoke(root, "key", "policy", "set", "main", "--namespace", "web", "--require")
    assert "encryption is required in main:web" in done.output
    assert api.asked[-1][2] == KeyPolicy(datastore="main", namespace="web")
    assert "no policy for main any more" in invoke(root, "key", "policy", "unset", "main").output
    assert invoke(root, "key", "policy", "set", "main").exit_code == 2
