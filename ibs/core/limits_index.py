"""Bounds of looking at index files piece by piece."""

from __future__ import annotations

from typing import Final

from ibs.core.limits import MIB

INDEX_BLOCK_RECORDS: Final = 1 << 16
"""Records read and looked at in one piece."""
INDEX_HELD_BYTES_MAX: Final = 8 * MIB
"""An index file up to this size is held while it is looked things up in; of a larger one only eight bytes a record."""
PRESENCE_RUN_IDS: Final = 1 << 19
"""Ids of a base that are sorted and looked for in the store in one run."""
JOURNAL_BLOCK_IDS: Final = 1 << 16
"""Ids of a session's journal that are read in one piece."""
