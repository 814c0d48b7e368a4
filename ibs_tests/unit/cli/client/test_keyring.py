"""Options and questions around a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.client import keyring
from ibs.core.keys import DataKeys
from ibs.errors import NotFoundError, UsageError
from ibs.security import keyfile
from ibs.security.keyfile import LoadedKey


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IBS_KEY_PASSPHRASE", raising=False)
    monkeypatch.delenv("IBS_KEY_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_no_key_at_all(tmp_path: Path) -> None:
    assert [keyring.load(given) for given in (None, "", "none")] == [None, None, None]
    assert keyring.reading_keys("none") is None
    with pytest.raises(NotFoundError, match="no keyfile"):
        keyring.load(str(tmp_path / "missing"))
    made = LoadedKey(DataKeys.from_root(b"r" * 32), "encrypt", "", "", has_passphrase=False)
    keyfile.write(tmp_path / "k", keyfile.seal(made, ""))
    assert keyring.reading_keys(str(tmp_path / "k")) == made.keys


def test_the_users_own_one_is_used_without_being_asked_for(tmp_path: Path) -> None:
    assert keyring.load(None) is None
    made = LoadedKey(DataKeys.from_root(b"d" * 32), "encrypt", "", "", has_passphrase=False)
    assert keyring.default_path().is_relative_to(tmp_path)
    keyfile.write(keyring.default_path(), keyfile.seal(made, ""))
    assert keyring.reading_keys(None) == keyring.reading_keys("") == made.keys
    assert keyring.load("none") is None
    with pytest.raises(NotFoundError):
        keyring.load(str(tmp_path / "missing"))  # one that was named is never replaced by another
    keyring.default_path().unlink()
    keyring.default_path().symlink_to(tmp_path / "gone")
    with pytest.raises(NotFoundError):
        keyring.load(None)  # there was one: going on in clear is not what was meant


def test_a_new_one_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "one", "one", "two", ""])
    assert keyring.new_passphrase("?", lambda _: next(answers)) == "one"
    with pytest.raises(UsageError, match="differ"):
        keyring.new_passphrase("?", lambda _: next(answers))
    with pytest.raises(UsageError, match="no passphrase was given"):
        keyring.new_passphrase("?", lambda _: next(answers))
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "said")
    assert keyring.new_passphrase("?", lambda _: next(answers)) == "said"
    monkeypatch.delenv("IBS_KEY_PASSPHRASE")
    with pytest.raises(UsageError, match="none was given"):
        keyring.passphrase("?")
