"""What the benchmark measured, and what follows from it for a backup and a restore. Values only.

Imported by the modules of `client.benchmark` and by `cli`. Rates are bytes of content a second unless a figure's note
says otherwise; nothing here is a promise about a real backup, which also has files to open and names to look up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

BACKUP: Final = "backup"
RESTORE: Final = "restore"

HINTS: Final[Mapping[str, str]] = {
    "disk read": "the source's disk: nothing in this program makes it faster",
    "disk write": "the target's disk: nothing in this program makes it faster",
    "cutting": "one thread cuts; several sources in several backups use more cores",
    "hash, compress, encrypt": "a lower --level compresses faster; more cores help",
    "check, decompress, decrypt": "more cores help",
    "tls": "a processor with AES instructions, or a faster core",
    "upload": "the line, or the server and its disk; see what it is doing: ironcore-backup status",
    "download": "the line, or the server and its disk; see what it is doing: ironcore-backup status",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured rate: `bytes` in `seconds`. `part` is what was measured, `variant` of which kind."""

    part: str
    variant: str
    bytes: int
    seconds: float
    bytes_per_second: int
    note: str = ""

    @classmethod
    def of(cls, part: str, variant: str, size: int, seconds: float, note: str = "") -> Figure:
        """The figure of `size` bytes in `seconds`; a clock that did not move counts as a nanosecond."""
        seconds = max(seconds, 1e-9)
        return cls(part, variant, size, round(seconds, 4), int(size / seconds), note)


@dataclass(frozen=True, slots=True)
class Stage:
    """How fast one stage of a backup or restore can be, in bytes of content a second."""

    direction: str
    stage: str
    bytes_per_second: int


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The slowest stage of one direction, and what may be done."""

    direction: str
    stage: str
    bytes_per_second: int
    hint: str


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """All of it. `round_trip_ms` is 0.0 without a server; `notes` say what was not measured and why."""

    cores: int
    threads: int
    level: int
    compression_ratio: float
    figures: tuple[Figure, ...]
    stages: tuple[Stage, ...]
    bottlenecks: tuple[Bottleneck, ...]
    round_trip_ms: float = 0.0
    repository: str = ""
    notes: tuple[str, ...] = ()


def stages_of(figures: Sequence[Figure], *, threads: int, level: int, ratio: float) -> tuple[Stage, ...]:
    """Stages of a backup and of a restore, from whatever was measured.

    `threads` compute side by side; `ratio` is content by compressed size, for what goes over the line.
    """
    rates = {(one.part, one.variant): one.bytes_per_second for one in figures}
    first = {one.part: one.bytes_per_second for one in reversed(figures)}
    at = f"level {level}"
    found: list[Stage] = []

    def add(direction: str, stage: str, rate: float | None) -> None:
        if rate:
            found.append(Stage(direction, stage, int(rate)))

    def scaled(part: str) -> float | None:
        return first[part] * ratio if part in first else None

    add(BACKUP, "disk read", first.get("disk read"))
    add(BACKUP, "cutting", first.get("chunking"))
    add(
        BACKUP,
        "hash, compress, encrypt",
        _one_after_another(threads, (first.get("hash"), rates.get(("zstd compress", at)), scaled("aes encrypt"))),
    )
    add(BACKUP, "tls", scaled("tls"))
    add(BACKUP, "upload", scaled("upload"))
    add(RESTORE, "download", scaled("download"))
    add(RESTORE, "tls", scaled("tls"))
    add(
        RESTORE,
        "check, decompress, decrypt",
        _one_after_another(threads, (first.get("hash"), rates.get(("zstd decompress", at)), scaled("aes decrypt"))),
    )
    add(RESTORE, "disk write", first.get("disk write"))
    return tuple(found)


def _one_after_another(threads: int, rates: Iterable[float | None]) -> float | None:
    """The rate of several steps done one after the other by each of `threads`; None when one is not known."""
    seconds = 0.0
    for rate in rates:
        if not rate:
            return None
        seconds += 1 / rate
    return threads / seconds if seconds else None


def bottlenecks_of(stages: Sequence[Stage]) -> tuple[Bottleneck, ...]:
    """The slowest stage of each direction."""
    found = []
    for direction in (BACKUP, RESTORE):
        mine = [stage for stage in stages if stage.direction == direction]
        if mine:
            slowest = min(mine, key=lambda stage: stage.bytes_per_second)
            hint = HINTS.get(slowest.stage, "")
            found.append(Bottleneck(direction, slowest.stage, slowest.bytes_per_second, hint))
    return tuple(found)
