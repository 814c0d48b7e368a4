"""The index file of an archive: a header and fixed-size records that name its chunks (contrib/docs/formats.md §3).

Pure; used by `storage`, `engine` and `client`. Garbage collection, verification and sync need nothing but indexes, so
records are looked at through numpy, never one Python object each where there can be millions.
Invariant: what `parse_header` and `check_records` let pass is safe to size buffers and loops by.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.ids import ID_BYTES, Buffer
from ibs.errors import FormatError

HEADER_BYTES: Final = 256
MAGIC: Final = b"IBSI"
VERSION: Final = 1
TREE: Final = "tree"
IMAGE: Final = "img"
TREE_RECORD_BYTES: Final = 40
IMAGE_RECORD_BYTES: Final = 32
RECORD_BYTES: Final = {TREE: TREE_RECORD_BYTES, IMAGE: IMAGE_RECORD_BYTES}
KIND_DATA: Final = 0
KIND_METADATA: Final = 1
ZERO_ID: Final = bytes(ID_BYTES)
"""In an image index: a chunk of zero bytes that is not stored."""

IdArray = NDArray[np.uint8]
"""Ids as an array of shape (n, 32)."""

_HEADER: Final = struct.Struct("<4sHBBQQII32s32s32s96x")
_SEALED_BYTES: Final = 224
_KIND_NUMBERS: Final = {TREE: 1, IMAGE: 2}
_KIND_NAMES: Final = {number: kind for kind, number in _KIND_NUMBERS.items()}
_PLAIN_BYTES_MAX: Final = (1 << 63) - 1
_LOOKUP_BLOCK_IDS: Final = 1 << 15
_TREE_RECORD: Final = struct.Struct("<32sIB3x")
_TREE_DTYPE: Final = np.dtype(
    [("id", "u1", (ID_BYTES,)), ("plain_length", "<u4"), ("kind", "u1"), ("zero", "u1", (3,))]
)


@dataclass(frozen=True, slots=True)
class IndexHeader:
    """Header of an index file. `kind` is `tree` or `img`; `domain`, `root` and `records_digest` are 32 bytes.

    `plain_bytes`: size of the image, or of all files of the tree. `chunk_bytes`: image only, else 0.
    `depth` and `root`: tree only, else 0 and zero bytes.
    """

    kind: str
    record_bytes: int
    records: int
    plain_bytes: int
    chunk_bytes: int
    depth: int
    domain: bytes
    root: bytes
    records_digest: bytes

    @property
    def file_bytes(self) -> int:
        """Size of the whole index file."""
        return HEADER_BYTES + self.records * self.record_bytes


def encode_header(header: IndexHeader) -> bytes:
    """The 256 bytes. Raises FormatError when `header` is not one that `parse_header` would accept."""
    _check_header(header)
    sealed = _HEADER.pack(
        MAGIC,
        VERSION,
        _KIND_NUMBERS[header.kind],
        header.record_bytes,
        header.records,
        header.plain_bytes,
        header.chunk_bytes,
        header.depth,
        header.domain,
        header.root,
        header.records_digest,
    )
    return sealed + blake3(sealed).digest()


def parse_header(buf: Buffer, *, file_bytes: int | None = None) -> IndexHeader:
    """Read and check the header at the start of `buf`; `file_bytes` is the size of the whole file, where known.

    Raises FormatError on anything the format does not allow.
    """
    if len(buf) < HEADER_BYTES:
        raise FormatError(f"an index header has {HEADER_BYTES} bytes, only {len(buf)} are there")
    sealed = bytes(buf[:_SEALED_BYTES])
    magic, version, kind, record_bytes, records, plain_bytes, chunk_bytes, depth, domain, root, records_digest = (
        _HEADER.unpack(sealed)
    )
    if magic != MAGIC:
        raise FormatError("not an index: wrong magic bytes")
    if version != VERSION:
        raise FormatError(f"index version {version} is not known", hint="a newer release wrote it: upgrade this one")
    if blake3(sealed).digest() != bytes(buf[_SEALED_BYTES:HEADER_BYTES]):
        raise FormatError("index header does not match its digest")
    if any(sealed[_HEADER.size - 96 :]):
        raise FormatError("index header has bytes that must be zero")
    if kind not in _KIND_NAMES:
        raise FormatError(f"index kind {kind} is not known")
    header = IndexHeader(
        _KIND_NAMES[kind], record_bytes, records, plain_bytes, chunk_bytes, depth, domain, root, records_digest
    )
    _check_header(header)
    if file_bytes is not None and file_bytes != header.file_bytes:
        raise FormatError(f"index file has {file_bytes} bytes, its header says {header.file_bytes}")
    return header


def _check_header(header: IndexHeader) -> None:
    if header.kind not in RECORD_BYTES:
        raise FormatError(f"index kind {header.kind!r} is not known")
    if header.record_bytes != RECORD_BYTES[header.kind]:
        raise FormatError(f"index records of kind {header.kind} cannot have {header.record_bytes} bytes")
    if not 0 <= header.records <= limits.INDEX_RECORDS_MAX:
        raise FormatError(f"index record count {header.records} is over {limits.INDEX_RECORDS_MAX} or negative")
    if not 0 <= header.plain_bytes <= _PLAIN_BYTES_MAX:
        raise FormatError(f"index plain size {header.plain_bytes} is out of range")
    if any(len(field) != ID_BYTES for field in (header.domain, header.root, header.records_digest)):
        raise FormatError(f"index domain, root and digest have {ID_BYTES} bytes each")
    if header.kind == TREE:
        if header.chunk_bytes or not 0 <= header.depth <= limits.TREE_DEPTH_MAX:
            raise FormatError(f"tree index with chunk size {header.chunk_bytes} or depth {header.depth} is not valid")
        if header.root == ZERO_ID or not header.records:
            raise FormatError("tree index has no root chunk")
    else:
        if header.depth or header.root != ZERO_ID or header.chunk_bytes != limits.IMAGE_CHUNK_BYTES:
            raise FormatError("image index with a root, a depth or a foreign chunk size is not valid")
        if header.records != -(-header.plain_bytes // header.chunk_bytes):
            raise FormatError(f"image of {header.plain_bytes} bytes cannot have {header.records} records")


def tree_record(chunk_id: bytes, plain_length: int, kind: int) -> bytes:
    """One record of a tree index; `kind` is KIND_DATA or KIND_METADATA, `plain_length` in bytes."""
    return _TREE_RECORD.pack(chunk_id, plain_length, kind)


def tree_records(records: Buffer) -> NDArray[Any]:
    """Zero-copy view of tree records with the columns `id` (32 bytes), `plain_length`, `kind`.

    Raises FormatError when the last record is cut short.
    """
    _check_whole(records, TREE_RECORD_BYTES)
    return np.frombuffer(records, dtype=_TREE_DTYPE)


def record_ids(records: Buffer, record_bytes: int) -> IdArray:
    """Zero-copy view of the ids, shape (n, 32), of records of 32 or 40 bytes. Raises FormatError when cut short."""
    _check_whole(records, record_bytes)
    return np.frombuffer(records, dtype=np.uint8).reshape(-1, record_bytes)[:, :ID_BYTES]


def distinct(ids: IdArray) -> IdArray:
    """Each id once, sorted bytewise. Takes one copy of `ids`, and a second one only if an id is there twice."""
    whole = np.array(ids, order="C").view(np.dtype((np.void, ID_BYTES))).ravel()
    whole.sort()
    first = np.ones(len(whole), dtype=np.bool_)
    first[1:] = whole[1:] != whole[:-1]
    if not first.all():
        whole = whole[first]
    return whole.view(np.uint8).reshape(-1, ID_BYTES)


def iter_tree_records(records: Buffer) -> Iterator[tuple[bytes, int, int]]:
    """(id, plain length, kind) of each record, in order. Raises FormatError when the last record is cut short."""
    _check_whole(records, TREE_RECORD_BYTES)
    return cast("Iterator[tuple[bytes, int, int]]", _TREE_RECORD.iter_unpack(records))


def _check_whole(records: Buffer, record_bytes: int) -> None:
    if record_bytes not in (TREE_RECORD_BYTES, IMAGE_RECORD_BYTES):
        raise FormatError(f"index records cannot have {record_bytes} bytes")
    if len(records) % record_bytes:
        raise FormatError(f"{len(records)} bytes are not a whole number of {record_bytes}-byte records")


def check_records(header: IndexHeader, records: Buffer) -> None:
    """Check all records of an index against its header: count, digest, and for trees each record.

    Raises FormatError.
    """
    if len(records) != header.records * header.record_bytes:
        raise FormatError(f"index has {len(records)} bytes of records, its header says {header.records} records")
    if blake3(records).digest() != header.records_digest:
        raise FormatError("index records do not match their digest")
    if header.kind != TREE:
        return
    check_tree_records(records)
    rows = tree_records(records)
    lookup = IdLookup(rows["id"])
    if len(lookup) != len(rows):
        raise FormatError("tree index lists a chunk twice")
    at = lookup.positions([header.root])[0]
    if at < 0 or rows["kind"][at] != KIND_METADATA:
        raise FormatError("tree index does not list its root chunk as metadata")


def check_tree_records(records: Buffer) -> None:
    """Check each of some tree records by itself: known kind, possible length, an id, zero padding.

    Raises FormatError naming the first bad one.
    """
    rows = tree_records(records)
    lengths = rows["plain_length"]
    bad = (rows["kind"] > KIND_METADATA) | (lengths < 1) | (lengths > limits.CHUNK_PLAIN_BYTES_MAX)
    bad |= rows["zero"].any(axis=1) | ~rows["id"].any(axis=1)
    if bad.any():
        raise FormatError(f"tree index record {int(bad.argmax())} is not valid")


class IdLookup:
    """An immutable set of ids with vectorised look-up; distinct ids are counted once.

    `ids` has shape (n, 32), is kept by reference (do not change it), and may be a strided view. On top of it the
    look-up takes at most 16 bytes an id, so about 40 to 50 with the ids. Searching goes by 64-bit prefixes; each hit
    is compared in full, so ids chosen to share prefixes can only cost time linear in their number.
    """

    __slots__ = ("_crowded", "_ids", "_order", "_prefixes")

    def __init__(self, ids: IdArray) -> None:
        if ids.ndim != 2 or ids.shape[1] != ID_BYTES or ids.dtype != np.uint8:
            raise ValueError("ids must be a uint8 array of shape (n, 32)")
        self._ids = ids
        prefixes = _prefixes_of(ids)
        order = np.argsort(prefixes, kind="stable")
        prefixes = prefixes[order]
        self._crowded: dict[bytes, int] = {}
        if (prefixes[1:] == prefixes[:-1]).any():
            order, self._crowded = _without_repeats(ids, prefixes, order)
            prefixes = _prefixes_of(ids)[order]
        self._order = order.astype(np.uint32) if len(ids) < 1 << 32 else order
        self._prefixes = prefixes

    def __len__(self) -> int:
        """Number of distinct ids."""
        return len(self._order)

    def __contains__(self, chunk_id: bytes) -> bool:
        # The way of `positions` for one id, without the arrays: five times as fast.
        prefix = np.uint64(int.from_bytes(chunk_id[:8], "big"))
        at = int(self._prefixes.searchsorted(prefix))
        if len(chunk_id) != ID_BYTES or at == len(self._prefixes) or self._prefixes[at] != prefix:
            return False
        return self._ids[self._order[at]].tobytes() == chunk_id or chunk_id in self._crowded

    def contains(self, ids: IdArray | Iterable[bytes]) -> NDArray[np.bool_]:
        """For each id (array of shape (m, 32) or 32-byte strings): whether it is in the set."""
        return self.positions(ids) >= 0

    def positions(self, ids: IdArray | Iterable[bytes]) -> NDArray[np.int64]:
        """For each id its first row in the array this was built from, or -1."""
        wanted = ids if isinstance(ids, np.ndarray) else _as_array(ids)
        found = np.full(len(wanted), -1, dtype=np.int64)
        if len(self._order):
            # Block by block: comparing whole ids takes more than a hundred bytes for each.
            for start in range(0, len(wanted), _LOOKUP_BLOCK_IDS):
                block = slice(start, start + _LOOKUP_BLOCK_IDS)
                self._find(wanted[block], found[block])
        return found

    def _find(self, wanted: IdArray, found: NDArray[np.int64]) -> None:
        """`positions` of some ids, into `found`, which holds -1 throughout."""
        prefixes = _prefixes_of(wanted)
        at = np.searchsorted(self._prefixes, prefixes)
        np.minimum(at, len(self._order) - 1, out=at)
        hits = np.flatnonzero(self._prefixes[at] == prefixes)
        if not len(hits):
            return
        rows = self._order[at[hits]]
        whole = (self._ids[rows] == wanted[hits]).all(axis=1)
        found[hits[whole]] = rows[whole]
        if self._crowded:
            for i in hits[~whole]:
                found[i] = self._crowded.get(wanted[i].tobytes(), -1)


def _prefixes_of(ids: IdArray) -> NDArray[np.uint64]:
    """First 8 bytes of each id as a number in native byte order."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").ravel().astype(np.uint64)


def _as_array(ids: Iterable[bytes]) -> IdArray:
    chunks = list(ids)
    if any(len(chunk) != ID_BYTES for chunk in chunks):
        raise ValueError(f"an id has {ID_BYTES} bytes")
    return np.frombuffer(b"".join(chunks), dtype=np.uint8).reshape(-1, ID_BYTES)


def _without_repeats(
    ids: IdArray, prefixes: NDArray[np.uint64], order: NDArray[np.intp]
) -> tuple[NDArray[np.intp], dict[bytes, int]]:
    """Order of distinct ids only, and the rows of distinct ids whose prefix is not their own alone.

    The second is empty unless somebody chose ids to collide: of 2^32 honest ids, half a pair shares 64 bits.
    """
    shared = np.zeros(len(order), dtype=np.bool_)
    same = prefixes[1:] == prefixes[:-1]
    shared[1:] |= same
    shared[:-1] |= same
    rows = order[shared]
    words = np.ascontiguousarray(ids[rows]).view(">u8").astype(np.uint64)
    by_id = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    rows, words = rows[by_id], words[by_id]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (words[1:] != words[:-1]).any(axis=1)
    rows, words = rows[first], words[first]
    close = words[1:, 0] == words[:-1, 0]
    collide = np.zeros(len(rows), dtype=np.bool_)
    collide[1:] |= close
    collide[:-1] |= close
    crowded = {ids[row].tobytes(): int(row) for row in rows[collide]}
    kept = np.concatenate((order[~shared], rows))
    return kept[np.argsort(_prefixes_of(ids)[kept], kind="stable")], crowded
