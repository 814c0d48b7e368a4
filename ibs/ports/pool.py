"""Where blocking work runs. Everything that touches disk, hashes, compresses or asks SQLite goes through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Pool(Protocol):
    """Two bounded lanes of worker threads; the simulator's variant runs inline."""

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking I/O. *Cancellation*: the call is never abandoned half way; it finishes, then cancels."""
        ...

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """Run CPU-bound work that releases the GIL (hash, zstd, AES, chunking)."""
        ...
