"""What of an image may be taken from the previous snapshot without reading, on the word of a map of changes.

Importable by the backup pipeline only. A map counts from one snapshot; beside any other base it would lose changes
without a trace. So it is used only where everything agrees, and where it is not, there is a reason to tell.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.plan import Changes
from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.sources.changes import ChangeMap
from ibs.wire.session import BaseArchive, SessionOpened

CHUNK_BYTES = limits.IMAGE_CHUNK_BYTES
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Unchanged:
    """`same[n]`: chunk n is what record n of `base` names. `sampled` of these are read and compared all the same.

    `snapshot` is the base's name, for people.
    """

    base: BaseIndex = field(repr=False)
    same: Flags = field(repr=False)
    sampled: Flags = field(repr=False)
    snapshot: str = ""

    @property
    def taken(self) -> Flags:
        """Chunks that are not read."""
        return self.same & ~self.sampled


def why_not(
    changes: Changes, opened: SessionOpened, offered: BaseArchive | None, base: BaseIndex | None, size: int
) -> str:
    """Why a map that counts from `changes.since` must not be used beside this base; "" when it may."""
    if offered is None or base is None:
        return "the server offers no previous snapshot of this archive to build on"
    if changes.digest:
        if opened.previous_manifest_digest != changes.digest:
            return f"it counts from the manifest {changes.digest[:16]}…, and the newest snapshot is {offered.snapshot}"
    elif SnapshotName.parse(offered.snapshot) != changes.snapshot:
        return f"it counts from {changes.snapshot}, and the newest snapshot is {offered.snapshot}"
    if base.header.plain_bytes != size:
        return f"the image has {size} bytes now, and {base.header.plain_bytes} in {offered.snapshot}"
    return ""


def unchanged_chunks(
    found: ChangeMap, base: BaseIndex, size: int, *, snapshot: str, seed: str, percent: float | None
) -> Unchanged:
    """Apply a map that `why_not` let pass. `percent` of the unchanged chunks are sampled; None: a few.

    The sample is a different one for each `seed`, and always the same for one. Raises UsageError.
    """
    same = found.unchanged(size, CHUNK_BYTES) & base.usable_rows
    candidates = np.flatnonzero(same)
    wanted = limits.IMAGE_SAMPLE_CHUNKS if percent is None else int(np.ceil(len(candidates) * percent / 100))
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
    chosen = np.random.default_rng(number).choice(candidates, min(wanted, len(candidates)), replace=False)
    sampled = np.zeros(len(same), dtype=np.bool_)
    sampled[chosen] = True
    return Unchanged(base, same, sampled, snapshot)
