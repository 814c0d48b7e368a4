"""Ids for tests: many distinct ones, and tables of them."""

from __future__ import annotations

import numpy as np

from ibs.core.idtable import IdTable, IdTableBuilder
from ibs.core.index import IdArray


def random_ids(count: int, seed: int = 1) -> IdArray:
    """So many ids, the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, size=(count, 32), dtype=np.uint8)


def table_of(ids: IdArray) -> IdTable:
    """A table of ids that lie in memory."""
    builder = IdTableBuilder(lambda row, count: ids[row : row + count], len(ids))
    builder.add(np.arange(len(ids)), ids)
    return builder.done()[0]
