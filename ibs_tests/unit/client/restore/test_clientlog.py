"""The lines of a backup come back where the key is, whole and proven."""

from __future__ import annotations

import msgspec
import pytest
from blake3 import blake3

from ibs.client.restore.clientlog import read_log
from ibs.core.blob import BlobEncoder
from ibs.core.keys import DataKeys
from ibs.core.manifest import CLIENT_LOG, Manifest, ManifestBlob
from ibs.errors import FingerprintMismatch, FormatError, IbsError
from ibs.runtime.pool import InlinePool
from ibs.wire.session import LogLine
from ibs_tests.support.restores import SNAPSHOT, STORE, MemorySnapshot, MemoryTransport

KEYS, OTHER = DataKeys.from_root(b"k" * 32), DataKeys.from_root(b"o" * 32)
TEXT = "info: began\nwarning: secret-name: changed: while it was read\nodd\n"
LINES = [
    LogLine(level="info", text="began"),
    LogLine(level="warning", text="secret-name: changed: while it was read"),
    LogLine(level="info", text="odd"),
]


class Logged(MemorySnapshot):
    """With a client log."""

    def log(self, text: str) -> MemoryTransport:
        raw = text.encode()
        if self.keys is not None:
            encoder = BlobEncoder(keys=self.keys)
            raw = bytes(encoder.encode(raw, encoder.identify(raw)))
        self.files[CLIENT_LOG] = raw
        return self.transport()

    def manifest(self) -> Manifest:
        blobs = tuple(
            ManifestBlob(name=name, bytes=len(raw), digest=blake3(raw).hexdigest())
            for name, raw in self.files.items()
            if name == CLIENT_LOG
        )
        return msgspec.structs.replace(super().manifest(), blobs=blobs)


async def lines(transport: MemoryTransport, keys: DataKeys | None) -> list[LogLine]:
    return await read_log(transport, store=STORE, snapshot=SNAPSHOT, pool=InlinePool(), keys=keys)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
async def test_it_comes_back(keys: DataKeys | None) -> None:
    transport = Logged(keys).log(TEXT)
    assert await lines(transport, keys) == LINES
    assert transport.closed == ("OK", 0, "")
    assert (b"secret-name" in transport.snapshot.files[CLIENT_LOG]) is (keys is None)
    assert await lines(Logged(keys).transport(), keys) == []


async def test_not_without_its_key() -> None:
    for keys in (None, OTHER):
        with pytest.raises(FingerprintMismatch):
            await lines(Logged(KEYS).log(TEXT), keys)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
async def test_what_was_changed_is_refused(keys: DataKeys | None) -> None:
    snapshot = Logged(keys)
    transport = snapshot.log(TEXT)
    raw = snapshot.files[CLIENT_LOG]
    for changed in (b"", raw[:-1], raw[:-1] + bytes([raw[-1] ^ 1])):
        snapshot.files[CLIENT_LOG] = changed
        with pytest.raises(FormatError, match="not the one its manifest states"):
            await lines(transport, keys)
        assert transport.closed == ("FAILED", 0, FormatError.code)


async def test_a_log_that_is_no_blob_is_refused() -> None:
    snapshot = Logged(KEYS)
    snapshot.files[CLIENT_LOG] = b"in clear, although the archives are not"
    with pytest.raises(IbsError):
        await lines(snapshot.transport(), KEYS)
