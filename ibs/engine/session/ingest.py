"""Taking bodies in: what arrives is checked whole before it is pinned, put and acknowledged. One thread hop a body.

Used by `engine.session` only. All of it runs in a pool thread. PROTOCOLS 6 and 7: a plain blob is decoded and its id
recomputed; an encrypted blob's digest and domain are checked; nothing but the session's own domain is taken.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ibs.core import limits
from ibs.core.blob import check_blob, split_blobs
from ibs.engine.context import StoreContext
from ibs.engine.session.pins import PinSet
from ibs.errors import RefusedError, UsageError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, PutOutcome
from ibs.ports.transport import Buffer


class Ingest:
    """Receives the bodies of one session, from several threads at once. Counts what was new to the store."""

    def __init__(self, context: StoreContext, pins: PinSet) -> None:
        self._context = context
        self._pins = pins
        self._lock = threading.Lock()
        self.received_chunks = 0
        self.new_chunks = 0
        self.new_bytes = 0
        self.healed_chunks = 0

    def receive(self, bodies: Sequence[Buffer]) -> int:
        """Check, pin and put every blob in `bodies`; return how many there were.

        Raises FormatError, CorruptChunk (transfer damage), RefusedError, NoSpace, DatastoreReadOnly.
        """
        blobs = self._checked(bodies)
        # The journal names the chunks before the first of them can exist in the store (see pins.py).
        self._pins.pin([address.id for address, _ in blobs])
        new_chunks = new_bytes = healed = 0
        try:
            for address, blob in blobs:
                outcome = self._context.store.put(address, blob)
                if outcome is not PutOutcome.DUPLICATE:
                    new_chunks += 1
                    new_bytes += len(blob)
                healed += outcome is PutOutcome.REPLACED
        finally:
            with self._lock:
                self.received_chunks += len(blobs)
                self.new_chunks += new_chunks
                self.new_bytes += new_bytes
                self.healed_chunks += healed
        return len(blobs)

    def _checked(self, bodies: Sequence[Buffer]) -> list[tuple[Address, memoryview]]:
        if sum(len(body) for body in bodies) > limits.CHUNK_BODY_BYTES_MAX:
            raise UsageError(
                "the upload body is too long", hint=f"send at most {limits.CHUNK_BODY_BYTES_MAX} bytes at once"
            )
        domain = self._pins.domain
        decoder = self._context.decoders.plain if domain == PLAIN_DOMAIN else None
        checked: list[tuple[Address, memoryview]] = []
        for body in bodies:
            for header, blob in split_blobs(body):
                if header.domain != domain:
                    raise RefusedError(
                        "a chunk of another key was sent in this session",
                        hint="one session carries chunks of one key only; start a session for the other key",
                    )
                if len(checked) >= limits.BODY_BLOBS_MAX:
                    raise UsageError(
                        "too many chunks in one body", hint=f"send at most {limits.BODY_BLOBS_MAX} chunks at once"
                    )
                if decoder is not None:
                    decoder.decode(blob, want=header.address)
                else:
                    check_blob(blob)
                checked.append((header.address, blob))
        return checked
