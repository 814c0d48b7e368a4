"""The wrapped key of a snapshot: fetched for the owner of the master key, and what came out of it proven.

Used by the commands.
"""

from __future__ import annotations

import trio

from ibs.client.restore.snapshot import open_snapshot
from ibs.core import limits
from ibs.core.ids import digest
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest, decode
from ibs.core.masterkey import WRAPPED_BLOB, WrappedKey, decode_wrapped
from ibs.errors import FormatError, IbsError, NotFoundError
from ibs.ports.transport import RestoreTransport


async def read_wrapped(transport: RestoreTransport, *, store: str, snapshot: str) -> tuple[str, WrappedKey]:
    """The snapshot's full name, and its key as it was wrapped. Nothing of both is proven yet: see `prove`.

    Raises NotFoundError when it carries none, FormatError, and what the transport raises.
    """
    opened = await transport.open(store, snapshot)
    status, message = "FAILED", "cancelled"
    try:
        manifest = decode(opened.manifest.encode())
        found = await _read(transport, manifest)
        status, message = "OK", ""
    except IbsError as error:
        message = error.code
        raise
    finally:
        with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
            await transport.close(status, 0, message)
    return manifest.snapshot, found


async def _read(transport: RestoreTransport, manifest: Manifest) -> WrappedKey:
    stated = next((blob for blob in manifest.blobs if blob.name == WRAPPED_BLOB), None)
    if stated is None:
        raise NotFoundError(
            f"{manifest.snapshot} carries no wrapped key",
            hint="it was made without a key, or its keyfile named no master key then; try a later one",
        )
    raw = await transport.file(WRAPPED_BLOB)
    if len(raw) != stated.bytes or digest(raw).hex() != stated.digest:
        raise FormatError(f"{WRAPPED_BLOB} of {manifest.snapshot} is not the one its manifest states")
    found = decode_wrapped(raw)
    if found.key_fingerprint != manifest.key_fingerprint:
        raise FormatError(f"{WRAPPED_BLOB} of {manifest.snapshot} is of another key than the snapshot")
    return found


async def prove(transport: RestoreTransport, *, store: str, snapshot: str, keys: DataKeys) -> None:
    """That these keys signed the snapshot.

    Raises SignatureInvalid, FingerprintMismatch, and what the transport raises.
    """
    await open_snapshot(transport, store, snapshot, keys=keys)
    with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
        await transport.close("OK", 0, "")
