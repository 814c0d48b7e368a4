"""Data keys: everything derived from one 32-byte root secret (contrib/docs/formats.md §1).

Pure; importable by everyone from `core` upwards. Invariants: each use has its own key, derived with its own fixed
context, so that no output of one use tells anything about another; secrets never appear in `repr`.
How the root secret is stored (keyfile, master key, paper) is `security`'s business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, Self

from blake3 import blake3

from ibs.core.ids import Buffer
from ibs.errors import UsageError

ROOT_BYTES: Final = 32
_CONTEXT: Final = "ironcore-backup 2026 v1 "


def _derive(root: bytes, use: str) -> bytes:
    return blake3(root, derive_key_context=_CONTEXT + use).digest()


@dataclass(frozen=True)
class DataKeys:
    """The keys of one data key; build it with `from_root`.

    `id_key`, `chunk_key_key` and `signing_seed` are 32 bytes each; `chunker_seed` is below 2^64; `fingerprint`
    (32 bytes) is public and names the key, it is also the domain of all chunks under it.
    """

    root: bytes = field(repr=False)
    id_key: bytes = field(repr=False)
    chunk_key_key: bytes = field(repr=False)
    chunker_seed: int = field(repr=False)
    signing_seed: bytes = field(repr=False)
    fingerprint: bytes

    @classmethod
    def from_root(cls, root: bytes) -> Self:
        """Derive everything from the 32-byte root secret. Raises UsageError on another length."""
        if len(root) != ROOT_BYTES:
            raise UsageError(f"a data key has {ROOT_BYTES} bytes, not {len(root)}", hint="give the whole keyfile")
        return cls(
            root=bytes(root),
            id_key=_derive(root, "chunk id"),
            chunk_key_key=_derive(root, "chunk key"),
            chunker_seed=int.from_bytes(_derive(root, "chunker seed")[:8], "little"),
            signing_seed=_derive(root, "signing"),
            fingerprint=hashlib.sha256(_derive(root, "fingerprint")).digest(),
        )

    def chunk_id(self, data: Buffer) -> bytes:
        """The keyed id of a chunk's plaintext; tells nothing to whoever lacks the key."""
        return blake3(data, key=self.id_key).digest()

    def chunk_key(self, chunk_id: bytes) -> bytes:
        """The AES-256 key of one chunk. Equal content has equal keys, so a nonce can only repeat for equal content."""
        return blake3(chunk_id, key=self.chunk_key_key).digest()
