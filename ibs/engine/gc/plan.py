"""What a garbage collection was asked for, what it found, and the brakes between the two (PROTOCOLS 12, DESIGN P6).

Used by `engine.gc` and `services`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ibs.core import limits
from ibs.errors import ConflictError, UsageError
from ibs.ports.chunkstore import Address, Space
from ibs.units import format_bytes, format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`share_percent`: of all chunks, how many may go. `io_limit` in bytes a second, 0 for none. `by`: who asked."""

    dry_run: bool = False
    reclaim_now: bool = False
    empty_bin: bool = False
    share_percent: int = limits.GC_SHARE_PERCENT
    accept_missing: bool = False
    io_limit: int = 0
    by: str = ""
    upid: str = ""

    def check(self) -> None:
        """Raises UsageError."""
        if not 1 <= self.share_percent <= 100:
            raise UsageError(f"a share of {self.share_percent} % is out of range", hint="use 1 to 100")
        if self.io_limit < 0:
            raise UsageError("the I/O limit is negative", hint="give bytes a second, 0 for no limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What marking found. `chunks` and `bytes` would go, of `total_chunks`.

    `missing`: chunks that snapshots refer to and that are gone, unknown before, with one that refers to each;
    `missing_more`: how many beyond those listed; `missing_known`: known before. `wanted_again`: in trash and needed.
    """

    total_chunks: int = 0
    chunks: int = 0
    bytes: int = 0
    references: int = 0
    snapshots: int = 0
    missing: Mapping[Address, str] = field(default_factory=dict)
    missing_more: int = 0
    missing_known: int = 0
    wanted_again: int = 0

    @property
    def share(self) -> float:
        """Of all chunks, 0 to 1."""
        return self.chunks / self.total_chunks if self.total_chunks else 0.0

    def brake(self, store: str, options: Options) -> None:
        """Raises ConflictError when this must not be carried out without somebody's word."""
        if (self.missing or self.missing_more) and not options.accept_missing:
            address, by = next(iter(self.missing.items()))
            raise ConflictError(
                f"{format_count(len(self.missing) + self.missing_more)} chunks that snapshots refer to are missing, "
                f"and nobody knew: the first is {address.id.hex()} of {by}; nothing was collected",
                hint=f"see what is hurt: ironcore-backup verify start {store}; once the loss is known "
                "garbage collection goes on, also with --accept-missing",
                missing=len(self.missing) + self.missing_more,
            )
        if self.chunks * 100 > self.total_chunks * options.share_percent:
            raise ConflictError(
                f"{format_count(self.chunks)} of {format_count(self.total_chunks)} chunks ({self.share:.0%}, "
                f"{format_bytes(self.bytes)}) would go, more than {options.share_percent} %; nothing was collected",
                hint=f"if that is right: ironcore-backup gc start {store} --allow-share {_next_share(self.share)}",
                chunks=self.chunks,
                total_chunks=self.total_chunks,
            )


def _next_share(share: float) -> int:
    return min(100, int(share * 100) + 1)


def is_short(space: Space) -> bool:
    """Whether there is so little room that trash is not worth what it takes."""
    return any(
        free is not None and free < min((total or 0) // limits.GC_SHORT_SHARE, most)
        for free, total, most in (
            (space.bytes_free, space.bytes_total, limits.GC_SHORT_BYTES_MAX),
            (space.inodes_free, space.inodes_total, limits.GC_SHORT_INODES_MAX),
            (space.quota_bytes_free, space.quota_bytes_total, limits.GC_SHORT_BYTES_MAX),
            (space.quota_inodes_free, space.quota_inodes_total, limits.GC_SHORT_INODES_MAX),
        )
    )
