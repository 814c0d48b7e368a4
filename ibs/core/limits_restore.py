"""Bounds of a restore that works with a second process; the others are in `limits`."""

from __future__ import annotations

from ibs.core.limits import KIB, MIB

HELPER_PLAIN_BYTES_MIN = 256 * MIB
"""A restore of less is done before a second process would have paid for its start."""
HELPER_MEMORY_BYTES = 96 * MIB
"""Shared memory for plaintexts: the window, the cache, and some room for gaps between places."""
HELPER_READAHEAD_BYTES = 48 * MIB
HELPER_CACHE_BYTES = 24 * MIB
"""The restore's window and cache while a helper works: with them both processes stay under 300 MiB."""
HELPER_FRAME_BYTES_MAX = 256 * KIB
"""A message between the two: FETCH_IDS_MAX places, or as many errors."""
