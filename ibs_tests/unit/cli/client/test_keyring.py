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
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IBS_KEY_PASSPHRASE", raising=False)
    monkeypatch.delenv("IBS_KEY_PASSPHRASE_FILE", raising=False)


def test_no_key_at_all(tmp_path: Path) -> None:
    assert [keyring.load(given) for given in (None, "", "none")] == [None, None, None]
    assert keyring.reading_keys("none") is None
    with pytest.raises(NotFoundError, match="no keyfile"):
        keyring.load(str(tmp_path / "missing"))
    made = LoadedKey(DataKeys.from_root(b"r" * 32), "encrypt", "", "", has_passphrase=False)
    keyfile.write(tmp_path / "k", keyfile.seal(made, ""))
    assert keyring.reading_keys(str(tmp_path / "k")) == made.keys


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
