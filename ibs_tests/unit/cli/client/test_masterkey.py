"""What the commands of the master key ask for, and what they read; the rest is in e2e/test_masterkey.py."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ibs.cli.client import masterkey as commands
from ibs.core import limits_keys, masterkey
from ibs.core.masterkey import MasterPublic
from ibs.errors import FormatError, UsageError

DER = b"any key"
PUBLIC = MasterPublic(fingerprint=masterkey.fingerprint_of(DER), public=base64.b64encode(DER).decode())


def test_the_public_half_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "master.pub"
    path.write_bytes(masterkey.encode(PUBLIC))
    assert commands.read_public(path) == PUBLIC
    path.write_bytes(b" " * (limits_keys.MASTER_FILE_BYTES_MAX + 10))
    assert len(commands.read_small(path)) == limits_keys.MASTER_FILE_BYTES_MAX + 1
    with pytest.raises(FormatError):
        commands.read_public(path)
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="cannot be read"):
            commands.read_public(wrong)


def test_where_the_passphrase_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ask_secret", lambda _prompt: "")
    with pytest.raises(UsageError, match="none was given"):
        commands._passphrase(tmp_path)
    word = tmp_path / "word"
    word.write_text("from a file\n")
    monkeypatch.setenv("IBS_MASTER_PASSPHRASE_FILE", str(word))
    assert commands._passphrase(tmp_path) == "from a file"
    monkeypatch.setenv("IBS_MASTER_PASSPHRASE", "stated")
    assert commands._passphrase(tmp_path) == "stated"
