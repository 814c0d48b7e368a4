"""Keys derived from one root secret."""

from __future__ import annotations

import hashlib

import pytest
from blake3 import blake3

from ibs.core.keys import DataKeys
from ibs.errors import UsageError

ROOT = bytes(range(32))


def test_each_use_has_its_own_key() -> None:
    keys = DataKeys.from_root(ROOT)
    derived = [keys.id_key, keys.chunk_key_key, keys.signing_seed, keys.fingerprint, keys.root]
    assert len(set(derived)) == len(derived)
    assert all(len(key) == 32 for key in derived)
    assert keys == DataKeys.from_root(bytearray(ROOT))
    assert keys.fingerprint != DataKeys.from_root(bytes(32)).fingerprint


def test_derivation_is_the_documented_one() -> None:
    keys = DataKeys.from_root(ROOT)
    seed = blake3(ROOT, derive_key_context="ironcore-backup 2026 v1 chunker seed").digest()
    assert keys.chunker_seed == int.from_bytes(seed[:8], "little")
    public = blake3(ROOT, derive_key_context="ironcore-backup 2026 v1 fingerprint").digest()
    assert keys.fingerprint == hashlib.sha256(public).digest()
    assert keys.chunk_id(b"data") == blake3(b"data", key=keys.id_key).digest()
    assert keys.chunk_key(b"\x01" * 32) == blake3(b"\x01" * 32, key=keys.chunk_key_key).digest()


def test_secrets_stay_out_of_repr() -> None:
    keys = DataKeys.from_root(ROOT)
    text = f"{keys!r} {keys}"
    assert repr(keys.fingerprint) in text
    for secret in (keys.root, keys.id_key, keys.chunk_key_key, keys.signing_seed, keys.chunker_seed):
        assert repr(secret) not in text


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_root_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        DataKeys.from_root(bytes(length))
