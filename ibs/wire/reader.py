"""Bodies of the reader routes: reading one snapshot under a read lease."""

from __future__ import annotations

from ibs.wire.common import Count, Wire
from ibs.wire.session import StageFigures


class ReaderOpen(Wire, frozen=True, kw_only=True):
    snapshot: str
    namespace: str = ""
    purpose: str = "restore"


class ReaderOpened(Wire, frozen=True, kw_only=True):
    """`manifest` is the exact text of manifest.json; `signature` base64; `signer` the Ed25519 key (hex) for it."""

    reader_id: str
    upid: str
    snapshot: str
    manifest: str
    signature: str
    signer: str


class ReaderClose(Wire, frozen=True, kw_only=True):
    """`status` is OK, WARNING or FAILED, as the client saw it; `stages`: where it spent its time."""

    status: str = "OK"
    warnings: Count = 0
    message: str = ""
    stages: dict[str, StageFigures] = {}
