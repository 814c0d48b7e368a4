"""Where a passphrase comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ibs.client.keys import load_key, nobody, passphrase, stated_passphrase, wrapped_key
from ibs.core import masterkey
from ibs.core.keys import DataKeys
from ibs.errors import UsageError
from ibs.security import keyfile
from ibs.security.keyfile import Cost, LoadedKey


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IBS_KEY_PASSPHRASE", raising=False)
    monkeypatch.delenv("IBS_KEY_PASSPHRASE_FILE", raising=False)


def test_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none was given"):
        passphrase("?", nobody)
    assert passphrase("?", lambda _: "typed") == "typed"
    (tmp_path / "secret").write_bytes(b"from a file \n")
    monkeypatch.setenv("IBS_KEY_PASSPHRASE_FILE", str(tmp_path / "secret"))
    assert passphrase("?", lambda _: "typed") == "from a file "
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "said")
    assert passphrase("?", lambda _: "typed") == "said"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        stated_passphrase("X", {"X_FILE": str(tmp_path / "none")})


def test_a_key_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = LoadedKey(DataKeys.from_root(b"r" * 32), "encrypt", "", "", has_passphrase=True)
    keyfile.write(tmp_path / "k", keyfile.seal(made, "secret", cost=Cost(1, 8192)))
    with pytest.raises(UsageError, match="none was given"):
        load_key(tmp_path / "k")
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "secret")
    assert load_key(tmp_path / "k").keys.root == b"r" * 32


def test_what_snapshots_carry_for_a_master_key() -> None:
    golden = Path(__file__).parents[2] / "compat" / "golden"
    public = masterkey.decode_public((golden / "master-public.json").read_bytes())
    named = LoadedKey(DataKeys.from_root(b"r" * 32), "sign-only", "web01", "", has_passphrase=True, master=public)
    wrapped = masterkey.decode_wrapped(wrapped_key(named))
    assert (wrapped.master, wrapped.mode, wrapped.comment) == (public.fingerprint, "sign-only", "web01")
    assert wrapped_key(replace(named, master=None)) == b""
    assert wrapped_key(None) == b""
