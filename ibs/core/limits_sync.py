"""Limits of remotes and of copying between servers."""

from __future__ import annotations

from typing import Final

REMOTES_MAX: Final = 1000
REMOTE_SECRET_CHARS_MAX: Final = 256
REMOTE_TEXT_CHARS_MAX: Final = 256
PULL_BATCH_CHUNKS: Final = 7
"""Chunks a request that fit into one answer whatever their size; by their lengths more are asked for."""
PULL_BLOB_EXTRA_BYTES: Final = 64 * 1024
"""How much larger than its plain bytes a blob may be, generously."""
PULL_REQUESTS: Final = 4
"""Requests under way at once."""
PULL_TROUBLES_SHOWN: Final = 100
LOCK_DRIFT_SECONDS: Final = 60
"""A lock here that ends so much earlier than at its source is as long: clocks differ."""
SYNC_JOBS_MAX: Final = 1000
SYNC_LOOK_SECONDS: Final = 10
"""How often it is looked which jobs are due."""
SYNC_STATUS_REMOTE_SECONDS: Final = 5
"""How long a status waits for the remote to tell its free space."""
SNAPSHOT_CHARS_MAX = 1024
"""A snapshot by its name, with its namespace, as a request writes it."""
