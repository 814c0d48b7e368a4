"""The chunks that the sound indexes of one snapshot name, each once, in pieces: what verification has to look at.

Used by `engine.verify`. Synchronous; call from the pool. Eight bytes of memory a chunk; the indexes stay in files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ibs.core.ids import Address
from ibs.core.idtable import IdTable
from ibs.core.index import IdArray, distinct
from ibs.engine.indexes import IndexFile
from ibs.errors import FormatError


@dataclass(frozen=True, slots=True)
class _Part:
    archive: str
    index: IndexFile
    rows: IdTable


@dataclass(slots=True)
class NamedChunks:
    """Those of the archives added so far. `total` counts them."""

    total: int = 0
    _parts: list[_Part] = field(default_factory=list)

    def add(self, archive: str, index: IndexFile, digest: str) -> None:
        """The chunks of one more archive, whose index the manifest says has this digest (hex).

        Raises FormatError, and nothing is added then.
        """
        proven = index.prove()
        if proven.digest != digest:
            raise FormatError("it does not match the manifest")
        before = list(self._parts)
        self._parts.append(_Part(archive, index, proven.rows))
        if any(part.index.header.domain == index.header.domain for part in before):
            self.total += sum(len(ids) for _, ids in self._of(len(before)))
        else:
            self.total += len(proven.rows)

    def pieces(self) -> Iterator[tuple[bytes, IdArray]]:
        """(domain, ids), sorted within a piece. Raises what reading an index raises."""
        for number in range(len(self._parts)):
            yield from self._of(number)

    def _of(self, number: int) -> Iterator[tuple[bytes, IdArray]]:
        """Pieces of the part of this number, without what the parts before it name."""
        part = self._parts[number]
        domain = part.index.header.domain
        before = [one.rows for one in self._parts[:number] if one.index.header.domain == domain]
        for first, piece in part.index.blocks():
            rows, ids = part.index.stored(piece, first)
            new = part.rows.rows(ids) == rows  # an image may name a chunk often: its first row counts
            for other in before:
                new[new] = ~other.contains(ids[new])
            yield domain, distinct(ids[new])

    def archive_of(self, address: Address) -> str:
        """An archive that names the chunk, `?` for none."""
        return next(
            (
                part.archive
                for part in self._parts
                if part.index.header.domain == address.domain and address.id in part.rows
            ),
            "?",
        )
