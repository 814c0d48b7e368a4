"""`key`: made, shown, sealed anew; the secret is never printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.client import root
from ibs.core import limits_keys, publickey
from ibs.security import keyfile
from ibs_tests.support.fakeapi import invoke


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("IBS_KEYFILE", "IBS_KEY_PASSPHRASE", "IBS_KEY_PASSPHRASE_FILE", "IBS_NEW_KEY_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(limits_keys, "ARGON_OPERATIONS", 1)


def opened(path: Path, passphrase: str = "") -> bytes:
    return keyfile.open_key(keyfile.read(path), lambda: passphrase).keys.root


def test_create_show_and_public_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "web01.key"
    made = invoke(root, "key", "create", str(path), "--no-passphrase", "--comment", "web01")
    assert made.exit_code == 0, made.output
    fingerprint = keyfile.read(path).fingerprint
    assert fingerprint in made.output
    assert opened(path).hex() not in made.output
    again = invoke(root, "key", "create", str(path), "--no-passphrase")
    assert again.exit_code != 0
    assert "exists already" in again.output
    shown = json.loads(invoke(root, "key", "show", str(path), "--output", "json").output)
    assert (shown["fingerprint"], shown["mode"], shown["passphrase"]) == (fingerprint, "encrypt", False)
    monkeypatch.setenv("IBS_KEYFILE", str(path))
    public = publickey.decode(invoke(root, "key", "show", "--public").output.encode())
    assert (public.fingerprint, public.comment) == (fingerprint, "web01")


def test_a_passphrase_is_wanted_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "k"
    refused = invoke(root, "key", "create", str(path))
    assert refused.exit_code == 2
    assert "no passphrase was given" in refused.output
    assert not path.exists()
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "one")
    assert invoke(root, "key", "create", str(path), "--mode", "sign-only").exit_code == 0
    root_secret = opened(path, "one")
    monkeypatch.setenv("IBS_NEW_KEY_PASSPHRASE", "two")
    assert "has a new passphrase" in invoke(root, "key", "change-passphrase", str(path)).output
    assert opened(path, "two") == root_secret
    wrong = invoke(root, "key", "show", str(path), "--public")
    assert wrong.exit_code != 0
    assert "does not open" in wrong.output
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "two")
    assert "has no passphrase" in invoke(root, "key", "change-passphrase", str(path), "--no-passphrase").output
    assert opened(path) == root_secret
    assert keyfile.read(path).mode == "sign-only"


def test_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "k"
    given = bytes(range(32)).hex()
    spaced = " ".join(given[i : i + 4] for i in range(0, 64, 4)).upper()
    assert invoke(root, "key", "import", str(path), "--no-passphrase", stdin=spaced + "\n").exit_code == 0
    assert opened(path) == bytes(range(32))
    for wrong in ("", given[:-2], given + "00", "zz" * 32):
        refused = invoke(root, "key", "import", str(tmp_path / "other"), "--no-passphrase", stdin=wrong)
        assert refused.exit_code == 2
        assert "64 hex digits" in refused.output
    assert not (tmp_path / "other").exists()


def test_the_default_place(tmp_path: Path) -> None:
    assert invoke(root, "key", "create", "--no-passphrase").exit_code == 0
    assert (tmp_path / "config" / "ironcore-backup" / "key.json").exists()
    assert invoke(root, "key", "show", "none").exit_code == 2
