"""The public half: what belongs together is proved, what is hostile is refused in words."""

from __future__ import annotations

import msgspec
import pytest

from ibs.core import publickey
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, SignatureInvalid, UsageError

KEYS = DataKeys.from_root(bytes(range(32)))


def test_it_comes_back_and_tells_nothing_secret() -> None:
    data = publickey.encode(publickey.describe(KEYS, "web01, 2026"))
    assert publickey.decode(data) == publickey.describe(KEYS, "web01, 2026")
    for secret in (KEYS.root, KEYS.id_key, KEYS.chunk_key_key, KEYS.signing_seed):
        assert secret.hex().encode() not in data
    assert KEYS.fingerprint.hex(":").encode() in data


@pytest.mark.parametrize("field", ["fingerprint", "signer", "comment", "signature"])
def test_every_field_is_bound_to_the_others(field: str) -> None:
    other = publickey.describe(DataKeys.from_root(bytes(32)), "other")
    mixed = msgspec.structs.replace(publickey.describe(KEYS), **{field: getattr(other, field)})
    with pytest.raises(SignatureInvalid):
        publickey.decode(publickey.encode(mixed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "x"}, "not 'ironcore-backup public key'"),
        ({"format": 2}, "format 2"),
        ({"fingerprint": "aa"}, "fingerprint"),
        ({"signer": "zz"}, "signer"),
        ({"signature": "!"}, "public key"),
        ({"signature": "AAAA"}, "64 bytes"),
        ({"comment": "a\nb"}, "printable"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], words: str) -> None:
    wrong = msgspec.structs.replace(publickey.describe(KEYS), **change)
    with pytest.raises(FormatError, match=words):
        publickey.decode(publickey.encode(wrong))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 4000, b"x" * 5000])
def test_hostile_bytes(data: bytes) -> None:
    with pytest.raises(FormatError):
        publickey.decode(data)


def test_whoever_sends_the_keyfile_itself_is_told_so() -> None:
    with pytest.raises(FormatError, match="keyfile itself"):
        publickey.decode(b'{"type": "ironcore-backup keyfile", "format": 1, "root": "AAAA"}')


def test_a_comment_is_one_line() -> None:
    for comment in ("a\nb", "x" * 300, "\x1b[2J"):
        with pytest.raises(UsageError):
            publickey.describe(KEYS, comment)
