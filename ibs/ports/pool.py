"""Where blocking work runs. Everything that touches disk, hashes, compresses or asks SQLite goes through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Pool(Protocol):
    """Three bounded lanes of worker threads; the simulator's variant runs inline."""

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking I/O. *Cancellation*: the call is never abandoned half way; it finishes, then cancels."""
        ...

    async def talk(self, work: Callable[..., T], abort: Callable[[], None], *args: object) -> T:
        """Run a conversation over a network. *Cancellation*: `abort` makes it end, and its end is waited for."""
        ...

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """Run CPU-bound work that releases the GIL (hash, zstd, AES, chunking)."""
        ...
