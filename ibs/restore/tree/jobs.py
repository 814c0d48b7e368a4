"""The units of work of a tree restore: made by the planner, run by the writer in pool threads.

Plain data, shared by `plan`, `writer` and `client.restore`. A job holds everything it needs but the chunks, which are
handed over when it runs; `chunks` tells whoever fetches them what to ask for, with plain lengths in bytes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ibs.core.tree import Entry
from ibs.restore.content import Piece
from ibs.restore.tree.folders import TargetFolder

_EXTENT_BYTES: Final = 200
_RANGE_BYTES: Final = 150


class Item(NamedTuple):
    """One entry to be made in a folder. `pieces` are its data, all of it."""

    entry: Entry
    folder: TargetFolder
    pieces: list[Piece]


@dataclass(slots=True)
class BatchJob:
    """Many small entries, made one after the other in one thread."""

    items: list[Item] = field(default_factory=list)
    chunks: dict[bytes, int] = field(default_factory=dict)
    data_bytes: int = 0
    entry_bytes: int = 0


@dataclass(slots=True, eq=False)
class BigFile:
    """A file whose spans are written by several jobs; the last one to finish puts it in place.

    `open_spans` counts jobs still to run plus one for the planner as long as it makes more.
    """

    entry: Entry
    folder: TargetFolder
    lock: threading.Lock = field(default_factory=threading.Lock)
    fd: int = -1
    temp: bytes = b""
    open_spans: int = 1
    failed: bool = False


@dataclass(slots=True)
class SpanJob:
    """Some consecutive pieces of a big file."""

    file: BigFile
    pieces: list[Piece]
    chunks: dict[bytes, int]
    data_bytes: int


@dataclass(slots=True)
class LinkJob:
    """Hard links, to be made when every job before has run."""

    items: list[Item] = field(default_factory=list)
    entry_bytes: int = 0


def entry_bytes(entry: Entry) -> int:
    """About how much memory an entry takes beyond its fixed part: what a few of them can make large."""
    size = len(entry.path) + len(entry.link) + _EXTENT_BYTES * len(entry.extents) + _RANGE_BYTES * len(entry.ranges)
    if entry.xattrs:
        size += sum(len(name) + len(value) for name, value in entry.xattrs)
    return size


Job = BatchJob | SpanJob | LinkJob


def paths_of(job: Job) -> list[bytes]:
    """Paths that are not in place before the job has run."""
    if isinstance(job, SpanJob):
        return [job.file.entry.path]
    return [item.entry.path for item in job.items]
