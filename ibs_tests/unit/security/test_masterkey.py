"""A master key opens what was wrapped under it, with its passphrase, and nothing else opens it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ibs.core import limits_keys, masterkey
from ibs.core.keys import DataKeys
from ibs.core.masterkey import MasterPublic, WrappedKey
from ibs.errors import FormatError, NotFoundError, RefusedError, UsageError
from ibs.security import keyfile
from ibs.security import masterkey as masters
from ibs.security.keyfile import Cost, LoadedKey
from ibs.security.masterkey import MasterFile

ROOT = bytes(range(32))
CHEAP = Cost(1, 8192)
KEY = LoadedKey(DataKeys.from_root(ROOT), "encrypt", "web01", "", has_passphrase=True)


@pytest.fixture(scope="module")
def master() -> MasterFile:
    return masters.make("the safe's word", "the safe", "2026-01-01T00:00:00Z", bits=3072, cost=CHEAP)


@pytest.fixture(scope="module")
def wrapped(master: MasterFile) -> WrappedKey:
    return masters.wrap(masters.public_half(master), KEY)


def never() -> str:
    raise AssertionError("no passphrase is needed")


def test_what_was_wrapped_comes_back(master: MasterFile, wrapped: WrappedKey) -> None:
    assert masters.unwrap(master, lambda: "the safe's word", wrapped) == KEY.keys
    assert (wrapped.mode, wrapped.comment, wrapped.master) == ("encrypt", "web01", master.fingerprint)
    assert masters.wrap(masters.public_half(master), KEY).wrapped != wrapped.wrapped, "random each time"
    travelled = masterkey.decode_wrapped(masterkey.encode(wrapped))
    assert masters.unwrap(masters.decode(masters.encode(master)), lambda: "the safe's word", travelled) == KEY.keys
    assert ROOT not in masterkey.encode(wrapped)
    assert base64.b64encode(ROOT) not in masterkey.encode(wrapped)


def test_a_real_one_has_4096_bits() -> None:
    made = masters.make("x", "", "", cost=CHEAP)
    public = serialization.load_der_public_key(masters.public_half(made).der)
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == limits_keys.MASTER_BITS == 4096


def test_the_wrong_passphrase_the_wrong_master_and_none(master: MasterFile, wrapped: WrappedKey) -> None:
    with pytest.raises(RefusedError, match="does not open the master key"):
        masters.unwrap(master, lambda: "wrong", wrapped)
    with pytest.raises(RefusedError, match="wrapped under master key aa:bb"):
        masters.unwrap(master, never, msgspec.structs.replace(wrapped, master="aa:bb"))
    with pytest.raises(UsageError, match="needs a passphrase"):
        masters.make("", "", "", bits=3072, cost=CHEAP)


def test_another_passphrase_for_the_same_key(master: MasterFile, wrapped: WrappedKey) -> None:
    again = masters.seal_again(master, "the safe's word", "another", cost=CHEAP)
    assert (again.fingerprint, again.comment, again.created) == (master.fingerprint, master.comment, master.created)
    assert masters.unwrap(again, lambda: "another", wrapped) == KEY.keys
    with pytest.raises(RefusedError):
        masters.unwrap(again, lambda: "the safe's word", wrapped)
    with pytest.raises(RefusedError):
        masters.seal_again(master, "wrong", "another", cost=CHEAP)


@pytest.mark.parametrize("change", [{"comment": "x"}, {"created": "x"}, {"public": "AAAA"}], ids=str)
def test_what_stands_beside_the_sealed_half_cannot_be_changed(
    change: dict[str, str], master: MasterFile, wrapped: WrappedKey
) -> None:
    with pytest.raises(RefusedError, match="does not open"):
        masters.unwrap(msgspec.structs.replace(master, **change), lambda: "the safe's word", wrapped)


@pytest.mark.parametrize("change", [{"wrapped": "AAAA"}, {"wrapped": "!"}, {"key_fingerprint": "aa:bb"}], ids=str)
def test_a_damaged_wrapped_key_opens_nothing(change: dict[str, str], master: MasterFile, wrapped: WrappedKey) -> None:
    with pytest.raises(FormatError):
        masters.unwrap(master, lambda: "the safe's word", msgspec.structs.replace(wrapped, **change))


def test_something_else_that_was_encrypted_for_the_master_is_no_key(master: MasterFile, wrapped: WrappedKey) -> None:
    public = serialization.load_der_public_key(masters.public_half(master).der)
    assert isinstance(public, rsa.RSAPublicKey)
    for plain in (b"short", bytes(32)):
        foreign = base64.b64encode(public.encrypt(plain, masters._oaep())).decode()
        with pytest.raises(FormatError):
            masters.unwrap(master, lambda: "the safe's word", msgspec.structs.replace(wrapped, wrapped=foreign))


def public_of(key: Any) -> MasterPublic:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return MasterPublic(fingerprint=masterkey.fingerprint_of(der), public=base64.b64encode(der).decode())


def test_weak_and_foreign_public_halves_are_refused() -> None:
    for weak in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(FormatError, match="at least 3072"):
            masters.wrap(public_of(weak), KEY)
    noise = MasterPublic(fingerprint=masterkey.fingerprint_of(b"noise"), public=base64.b64encode(b"noise").decode())
    with pytest.raises(FormatError, match="no key"):
        masters.wrap(noise, KEY)
    with pytest.raises(FormatError, match="another key's"):
        masters.wrap(msgspec.structs.replace(noise, fingerprint="aa"), KEY)


def test_files(tmp_path: Path, master: MasterFile) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(NotFoundError, match="there is no master key"):
        masters.read(path)
    keyfile.write_private(path, masters.encode(master), sealed=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert masters.read(path) == master
    with pytest.raises(UsageError):
        masters.read(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"type": "ironcore-backup keyfile"}', b" " * (limits_keys.MASTER_FILE_BYTES_MAX + 1)]
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        masters.decode(data)


@pytest.mark.parametrize("change", [{"format": 2}, {"type": "x"}, {"comment": "\n"}], ids=str)
def test_other_files_are_refused(change: dict[str, Any], master: MasterFile) -> None:
    with pytest.raises(FormatError):
        masters.decode(masters.encode(msgspec.structs.replace(master, **change)))


# --- a keyfile that names one ---


def test_a_keyfile_names_its_master_and_nobody_can_name_another(master: MasterFile) -> None:
    half = masters.public_half(master)
    named = LoadedKey(KEY.keys, "encrypt", "web01", "", has_passphrase=True, master=half)
    file = keyfile.decode(keyfile.encode(keyfile.seal(named, "word", cost=CHEAP)))
    assert keyfile.open_key(file, lambda: "word") == named
    evil = MasterPublic(fingerprint=masterkey.fingerprint_of(b"evil"), public=base64.b64encode(b"evil").decode())
    for other in (evil, msgspec.UNSET):
        with pytest.raises(RefusedError, match="does not open"):
            keyfile.open_key(msgspec.structs.replace(file, master=other), lambda: "word")
    plain = keyfile.seal(KEY, "word", cost=CHEAP)
    assert b"master" not in keyfile.encode(plain)
    with pytest.raises(RefusedError, match="does not open"):
        keyfile.open_key(msgspec.structs.replace(plain, master=half), lambda: "word")
    bare = keyfile.seal(named, "")
    damaged = msgspec.structs.replace(half, fingerprint="aa")
    with pytest.raises(FormatError, match="another key's"):
        keyfile.open_key(msgspec.structs.replace(bare, master=damaged), never)
