"""An independent look at a store on disk, written from contrib/docs/formats.md: what is there, what is referred to.

Uses none of the product's code, so that it cannot share the product's mistakes.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

_BLOB = struct.Struct("<4sBBHII32s32s12sI32s")
_INDEX = struct.Struct("<4sHBBQQII32s32s32s")
ZERO = bytes(32)


@dataclass(frozen=True)
class Findings:
    """`snapshots`: folders with a manifest. The other fields are what should not be there, or is missing."""

    snapshots: tuple[str, ...]
    unreferenced: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    leftovers: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing missing, damaged, or left behind."""
        return not (self.unreferenced or self.missing or self.damaged or self.leftovers)


def index_ids(path: Path) -> set[str]:
    """Hex ids of all chunks that an index file names; AssertionError when its header or digests are wrong."""
    raw = path.read_bytes()
    magic, version, kind, record, count, _plain, _chunk, _depth, _domain, _root, digest = _INDEX.unpack_from(raw)
    assert (magic, version) == (b"IBSI", 1), path
    assert record == {1: 40, 2: 32}[kind], path
    assert blake3(raw[:224]).digest() == raw[224:256], path
    assert len(raw) == 256 + count * record, path
    assert blake3(raw[256:]).digest() == digest, path
    ids = {raw[at : at + 32] for at in range(256, len(raw), record)}
    return {item.hex() for item in ids if item != ZERO}


def blob_is_whole(path: Path) -> bool:
    """True when a stored chunk's header fits its name and its digest holds."""
    raw = path.read_bytes()
    if len(raw) < 128:
        return False
    magic, version, _flags, _zero, _plain, payload, _domain, chunk, _nonce, _pad, digest = _BLOB.unpack_from(raw)
    right = (magic, version, chunk.hex(), len(raw)) == (b"IBSB", 1, path.name.partition("-")[0], 128 + payload)
    return right and blake3(raw[:96] + raw[128:]).digest() == digest


def examine(store: Path) -> Findings:
    """Read a whole store that no server has open (or that is idle)."""
    chunks = {
        path.name.partition("-")[0]: path for path in (store / "chunks").glob("[0-9a-f][0-9a-f][0-9a-f][0-9a-f]/*")
    }
    damaged = [name for name, path in chunks.items() if not blob_is_whole(path)]
    referenced: set[str] = set()
    snapshots = []
    leftovers = [str(path.relative_to(store)) for path in (store / "chunks" / "incoming").rglob("*") if path.is_file()]
    leftovers += [str(path.relative_to(store)) for path in (store / "staging").iterdir()]
    leftovers += [str(path.relative_to(store)) for path in (store / ".ibs" / "leases").glob("*")]
    for folder in sorted(path for path in (store / "ns").rglob("*Z") if path.is_dir()):
        if not (folder / "manifest.json").exists():
            leftovers.append(str(folder.relative_to(store)))
            continue
        manifest = json.loads((folder / "manifest.json").read_text())
        snapshots.append(manifest["snapshot"])
        for archive in manifest["archives"]:
            path = folder / f"{archive['name']}.idx"
            if blake3(path.read_bytes()).hexdigest() != archive["index_digest"]:
                damaged.append(str(path))
            referenced |= index_ids(path)
        known = {"manifest.json", "manifest.sig", "state.json"} | {f"{a['name']}.idx" for a in manifest["archives"]}
        known |= {blob["name"] for blob in manifest["blobs"]}
        leftovers += [str(path.relative_to(store)) for path in folder.iterdir() if path.name not in known]
    return Findings(
        tuple(snapshots),
        tuple(sorted(chunks.keys() - referenced)),
        tuple(sorted(referenced - chunks.keys())),
        tuple(damaged),
        tuple(leftovers),
    )
