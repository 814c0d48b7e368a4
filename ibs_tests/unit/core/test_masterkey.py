"""The public half and what is wrapped, as files: what does not hold together is refused in one sentence."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from ibs.core import limits_keys, masterkey
from ibs.core.masterkey import MasterPublic, WrappedKey
from ibs.errors import FormatError

DER = b"a public key, as far as this layer knows"
PUBLIC = MasterPublic(
    fingerprint=masterkey.fingerprint_of(DER), comment="the safe", public=base64.b64encode(DER).decode()
)
WRAPPED = WrappedKey(master="aa", key_fingerprint="bb", comment="web01", wrapped="AAAA")


def test_files_travel() -> None:
    assert masterkey.decode_public(masterkey.encode(PUBLIC)) == PUBLIC
    assert masterkey.decode_wrapped(masterkey.encode(WRAPPED)) == WRAPPED
    assert PUBLIC.der == DER


def changed(file: Any, **more: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(file) | more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"public": base64.b64encode(b"another").decode()}, "another key's"),
        ({"public": "!"}, "no base64"),
        ({"comment": "two\nlines"}, "printable"),
        ({"type": "ironcore-backup master key"}, "this is 'ironcore-backup master key'"),
        ({"format": 2}, "format 2 is not known"),
        ({"fingerprint": 7}, "this is no ironcore-backup master public key"),
        ({"comment": "x" * 300}, "this is no"),
    ],
)
def test_a_public_half_that_is_none(more: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        masterkey.decode_public(changed(PUBLIC, **more))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"oaep": "sha1"}, "this is no"),
        ({"mode": "other"}, "this is no"),
        ({"comment": "\x1b[2J"}, "printable"),
        ({"type": masterkey.PUBLIC_TYPE}, "this is"),
        ({"format": 9}, "not known"),
    ],
)
def test_a_wrapped_key_that_is_none(more: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        masterkey.decode_wrapped(changed(WRAPPED, **more))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'"x"', b" " * (limits_keys.MASTER_FILE_BYTES_MAX + 1)])
def test_hostile_bytes(data: bytes) -> None:
    for decode in (masterkey.decode_public, masterkey.decode_wrapped):
        with pytest.raises(FormatError):
            decode(data)
