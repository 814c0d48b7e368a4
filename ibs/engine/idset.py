"""A growing set of ids in memory, for runs that remember what they have seen. Used by `engine.verify`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ibs.core.index import IdArray, IdLookup
from ibs.engine.session.journal import id_array

_RECENT_IDS_MAX = 1 << 16
_RUNS_MAX = 8


class IdSet:
    """A growing set of ids at about 40 bytes each; not thread-safe.

    New ids gather in a Python set and are frozen into sorted runs, which are merged when they become many.
    """

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._arrays: list[IdArray] = []
        self._runs: list[IdLookup] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(array) for array in self._arrays)

    def __contains__(self, chunk: bytes) -> bool:
        return chunk in self._recent or any(chunk in run for run in self._runs)

    def add(self, ids: Iterable[bytes]) -> None:
        """Take ids in that are not in the set yet."""
        self._recent.update(ids)
        if len(self._recent) >= _RECENT_IDS_MAX:
            self._freeze(id_array(b"".join(self._recent)))
            self._recent = set()

    def _freeze(self, ids: IdArray) -> None:
        self._arrays.append(ids)
        self._runs.append(IdLookup(ids))
        if len(self._runs) > _RUNS_MAX:
            merged = np.concatenate(self._arrays)
            self._arrays, self._runs = [merged], [IdLookup(merged)]
