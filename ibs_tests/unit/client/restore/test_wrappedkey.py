"""What a server may answer in place of a wrapped key, and that what comes out of one must have signed the snapshot."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from blake3 import blake3

from ibs.client.restore.wrappedkey import prove, read_wrapped
from ibs.core import masterkey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest, ManifestBlob
from ibs.core.masterkey import WRAPPED_BLOB, WrappedKey
from ibs.errors import FingerprintMismatch, FormatError, NotFoundError
from ibs_tests.support.restores import SNAPSHOT, STORE, MemorySnapshot, MemoryTransport

KEYS, OTHER = DataKeys.from_root(b"k" * 32), DataKeys.from_root(b"o" * 32)
WRAPPED = WrappedKey(master="aa", key_fingerprint=hex_fingerprint(KEYS.fingerprint), wrapped="AAAA")


@dataclass
class Wrapped(MemorySnapshot):
    """With that file beside the archives; `stated` is what the manifest says of it."""

    stated: bytes = b""

    def manifest(self) -> Manifest:
        blob = ManifestBlob(name=WRAPPED_BLOB, bytes=len(self.stated), digest=blake3(self.stated).hexdigest())
        return msgspec.structs.replace(super().manifest(), blobs=(blob,) if self.stated else ())


def transport(stated: bytes, held: bytes | None = None) -> MemoryTransport:
    made = Wrapped(KEYS)
    made.stated = stated
    if stated:
        made.files[WRAPPED_BLOB] = stated if held is None else held
    return made.transport()


async def test_it_is_read_without_a_key_and_proven_with_what_came_out() -> None:
    line = transport(masterkey.encode(WRAPPED))
    name, found = await read_wrapped(line, store=STORE, snapshot=SNAPSHOT)
    assert (name, found) == (SNAPSHOT, WRAPPED)
    assert line.closed == ("OK", 0, "")
    again = transport(masterkey.encode(WRAPPED))
    await prove(again, store=STORE, snapshot=name, keys=KEYS)
    assert again.closed == ("OK", 0, "")
    with pytest.raises(FingerprintMismatch):
        await prove(transport(masterkey.encode(WRAPPED)), store=STORE, snapshot=name, keys=OTHER)


@pytest.mark.parametrize(
    ("stated", "held", "error", "said"),
    [
        (b"", None, NotFoundError, "carries no wrapped key"),
        (masterkey.encode(WRAPPED), masterkey.encode(WRAPPED) + b" ", FormatError, "is not the one"),
        (masterkey.encode(WRAPPED), masterkey.encode(WRAPPED)[:-1] + b" ", FormatError, "is not the one"),
        (b"noise", None, FormatError, "this is no"),
        (
            masterkey.encode(msgspec.structs.replace(WRAPPED, key_fingerprint="bb")),
            None,
            FormatError,
            "another key than the snapshot",
        ),
    ],
)
async def test_anything_else_is_told(stated: bytes, held: bytes | None, error: type[Exception], said: str) -> None:
    line = transport(stated, held)
    with pytest.raises(error, match=said):
        await read_wrapped(line, store=STORE, snapshot=SNAPSHOT)
    assert line.closed is not None
    assert line.closed[0] == "FAILED"
