"""Which keyfile is meant, and what a new one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.client import keyring, keywriting
from ibs.cli.output import Output
from ibs.errors import ConflictError, UsageError
from ibs.security import keyfile


def test_the_path_that_is_meant() -> None:
    assert keywriting.path_of("/some/key") == Path("/some/key")
    assert keywriting.path_of("") == keyring.default_path()
    with pytest.raises(UsageError, match="no keyfile"):
        keywriting.path_of("none")


def test_a_new_file_is_asked_for_nothing_when_its_name_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, root = tmp_path / "k", bytes(range(32))
    keywriting.write_new(path, root, "encrypt", "web01", Output.JSON, sealed=False, checksum="1234")
    printed = capsys.readouterr()
    assert '"checksum": "1234"' in printed.out
    assert root.hex() not in printed.out + printed.err
    assert keywriting.opened(path).keys.root == root
    before = keyfile.read(path)
    monkeypatch.setattr(keyring, "new_passphrase", lambda prompt: pytest.fail("asked"))
    with pytest.raises(ConflictError):
        keywriting.write_new(path, root, "encrypt", "web01", Output.TEXT, sealed=True)
    assert keyfile.read(path) == before
