"""The server's own secrets: made once, bound to their state, useless for another purpose."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ibs.core import manifest
from ibs.errors import ConflictError, FailedError
from ibs.security.secrets import check_secrets, load_secrets


class Kept:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def ensure(self, name: str, value: str) -> str:
        return self.values.setdefault(name, value)


def test_made_once_and_private(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    assert load_secrets(tmp_path) == secrets
    for name in ("server.key", "signing.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert load_secrets(tmp_path / "other") != secrets
    assert len({secrets.root, secrets.token_key, secrets.signing_seed}) == 3


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    shown = repr(secrets)
    for value in (secrets.root, secrets.token_key, secrets.signing_seed):
        assert value.hex() not in shown
        assert repr(value) not in shown


def test_the_signing_key_signs_manifests(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    assert manifest.public_key(secrets.signing_seed) == secrets.signer
    manifest.verify(b"x", manifest.sign(b"x", secrets.signing_seed, "server"), signer=secrets.signer)


def test_sealed_secrets_open_for_their_purpose_only(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    sealed = secrets.seal("smtp-password", b"hunter2")
    assert b"hunter2" not in sealed
    assert secrets.seal("smtp-password", b"hunter2") != sealed
    assert secrets.unseal("smtp-password", sealed) == b"hunter2"
    other = load_secrets(tmp_path / "other")
    spoiled = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for opener, purpose, text in (
        (secrets, "remote", sealed),
        (other, "smtp-password", sealed),
        (secrets, "smtp-password", spoiled),
        (secrets, "smtp-password", b"short"),
    ):
        with pytest.raises(FailedError, match="cannot be opened"):
            opener.unseal(purpose, text)
    with pytest.raises(ValueError, match="purpose"):
        secrets.seal("Bad Purpose", b"")


@pytest.mark.parametrize("content", ["", "garbage", "ibs-signing-key-1:" + "a" * 64, "ibs-server-key-1:" + "a" * 63])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: str) -> None:
    load_secrets(tmp_path)
    (tmp_path / "server.key").write_text(content)
    with pytest.raises(FailedError, match="is damaged"):
        load_secrets(tmp_path)
    assert (tmp_path / "server.key").read_text() == content


async def test_a_state_refuses_another_key(tmp_path: Path) -> None:
    kept, secrets = Kept(), load_secrets(tmp_path)
    await check_secrets(secrets, kept)
    await check_secrets(secrets, kept)
    with pytest.raises(ConflictError, match="not the one of this state"):
        await check_secrets(load_secrets(tmp_path / "other"), kept)
    assert secrets.root.hex() not in str(kept.values)
