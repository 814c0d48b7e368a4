"""Maps of what changed in a disk image since a certain moment: JSON as QEMU's and libnbd's tools print it.

Importable by the backup pipeline; reading blocks and belongs into a worker thread. A wrong map silently loses data, so
a map is refused wherever it could be understood in two ways, and what it does not name as unchanged counts as changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from ibs.core import limits
from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.notes import reason, shown

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
_READ_BYTES = 1 * limits.MIB
_END_SLACK_BYTES = 64 * limits.KIB
"""A map counts whole blocks of its bitmap or export, so it may end a little behind an image of odd size."""


class MapForm(StrEnum):
    """How a map is to be understood."""

    EXTENTS = "extents"
    """Each extent says `dirty`, or is described as `dirty` or `clean`; or the list names what changed and no more."""
    QEMU_BITMAP = "qemu-bitmap"
    """`qemu-img map` over a dirty bitmap: `data: false` is changed. It looks like a map of the image itself, in which
    the same words mean something else; so it has to be said."""


_Bytes = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]


class _Extent(msgspec.Struct, gc=False):
    """One extent of any form. With `start` there, `offset` is a place in another file and means nothing here."""

    length: _Bytes
    start: _Bytes | None = None
    offset: _Bytes | None = None
    dirty: bool | None = None
    description: str | None = None
    data: bool | None = None
    zero: bool | None = None


class ChangeMap:
    """Extents that changed, and whether the map describes the whole image or only lists these."""

    def __init__(self, name: str, starts: Numbers, lengths: Numbers, changed: Flags, *, whole: bool) -> None:
        self.name = name
        self._starts = starts
        self._ends = starts + lengths
        self._changed = changed
        self._whole = whole

    def unchanged(self, size: int, chunk_bytes: int) -> Flags:
        """For each chunk of an image of `size` bytes: whether no byte of it changed.

        Raises UsageError when the map is of an image of another size.
        """
        end = int(self._ends.max(initial=0))
        if end > size + _END_SLACK_BYTES or (self._whole and end < size):
            raise UsageError(
                f"map {self.name} describes {end} bytes, the image has {size}",
                hint="make the map from the image that is backed up, as it is now",
            )
        chunks = -(-size // chunk_bytes)
        marks = np.zeros(chunks + 1, dtype=np.int64)
        starts, ends = self._starts[self._changed], self._ends[self._changed]
        if self._whole:
            gap_starts, gap_ends = self._gaps()
            starts, ends = np.concatenate((starts, gap_starts)), np.concatenate((ends, gap_ends))
        some = ends > starts
        first = np.minimum(starts[some] // chunk_bytes, chunks)
        last = np.minimum(-(-ends[some] // chunk_bytes), chunks)
        np.add.at(marks, first, 1)
        np.add.at(marks, last, -1)
        changed: Numbers = np.cumsum(marks)[:chunks]
        return changed <= 0

    def _gaps(self) -> tuple[Numbers, Numbers]:
        """What no extent speaks of, up to the last one's end."""
        order = np.argsort(self._starts, kind="stable")
        starts, ends = self._starts[order], self._ends[order]
        covered = np.concatenate(([0], np.maximum.accumulate(ends)[:-1])) if len(ends) else ends
        return covered, starts


def read_map(path: bytes, form: MapForm = MapForm.EXTENTS) -> ChangeMap:
    """Read and check a map. Raises SourceUnreadable, and UsageError for anything that is not clearly such a map."""
    name = shown(path)
    return parse_map(_content(path, name), name, form)


def _content(path: bytes, name: str) -> bytes:
    content = bytearray()
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                content += piece
                if len(content) > limits.CHANGE_MAP_BYTES_MAX:
                    raise UsageError(
                        f"map {name} is larger than {limits.CHANGE_MAP_BYTES_MAX >> 20} MiB",
                        hint="use a bitmap of a coarser granularity, or back up without --changed",
                    )
    except OSError as error:
        raise SourceUnreadable(
            f"map {name} cannot be read: {reason(error)}", hint="check the path and your permissions"
        ) from error
    return bytes(content)


def parse_map(content: bytes, name: str, form: MapForm) -> ChangeMap:
    """A map from its JSON. Raises UsageError."""
    try:
        extents = msgspec.json.decode(content, type=list[_Extent])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"map {name} is not a list of extents: {error}",
            hint='it is JSON such as [{"start": 0, "length": 65536}]; see nbdinfo --map=qemu:dirty-bitmap:NAME --json',
        ) from error
    starts = [one.start if one.start is not None else one.offset for one in extents]
    if None in starts:
        raise UsageError(f"map {name} has an extent without start", hint="each extent has start and length, in bytes")
    changed, whole = _understood(extents, name, form)
    return ChangeMap(
        name,
        np.array(starts, dtype=np.int64),
        np.array([one.length for one in extents], dtype=np.int64),
        np.array(changed, dtype=np.bool_),
        whole=whole,
    )


def _understood(extents: Sequence[_Extent], name: str, form: MapForm) -> tuple[list[bool], bool]:
    """Which extents changed, and whether they describe the whole image."""
    if form is MapForm.QEMU_BITMAP:
        if any(one.data is None or one.zero is None for one in extents) or any(one.zero for one in extents):
            raise UsageError(
                f"map {name} is not one of a dirty bitmap by qemu-img: there, no extent is zero",
                hint="use qemu-img map --output=json with x-dirty-bitmap=qemu:dirty-bitmap:NAME",
            )
        return [not one.data for one in extents], True
    kinds = {(one.dirty is not None, one.description is not None, one.data is not None) for one in extents}
    if len(kinds) > 1:
        raise UsageError(f"map {name} mixes extents of several kinds", hint="use the output of one tool as it is")
    dirty, description, data = next(iter(kinds), (False, False, False))
    if dirty:
        return [bool(one.dirty) for one in extents], True
    if description:
        if any(one.description not in {"dirty", "clean"} for one in extents):
            raise UsageError(
                f"map {name} tells data from holes, not what changed",
                hint="use nbdinfo --map=qemu:dirty-bitmap:NAME --json",
            )
        return [one.description == "dirty" for one in extents], True
    if data or any(one.zero is not None for one in extents):
        raise UsageError(
            f"map {name} can be understood in two ways: over a dirty bitmap `data: false` is changed, "
            "otherwise it is a hole",
            hint="if qemu-img made it with x-dirty-bitmap, add --changed-format qemu-bitmap",
        )
    return [True] * len(extents), False


def read_maps(files: Sequence[tuple[str, str]], form: MapForm) -> dict[str, ChangeMap]:
    """Maps of several archives. Raises SourceUnreadable, UsageError."""
    return {archive: read_map(os.fsencode(path), form) for archive, path in files}
