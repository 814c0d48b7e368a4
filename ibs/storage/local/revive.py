"""Taking a chunk back out of the trash: file first, then its row. The other way round of retiring (see `trash`).

Used inside `storage.local`, by every path on which somebody turns out to need a retired chunk. Invariant: a row says
*durable* only while the file is in its place, so after any stop the file is where some row, or the next look at the
folders, says that it is.
"""

from __future__ import annotations

import os
from typing import Final

from ibs.ports.chunkstore import Address
from ibs.storage.local import files
from ibs.storage.local.chunkdb import Row
from ibs.storage.local.held import Held
from ibs.storage.local.layout import CHUNKS, chunk_name
from ibs.storage.local.ledger import Ledger

TRASH: Final = "trash"
ABOUT: Final = "about.json"


def trash_path(epoch: int, name: str) -> str:
    """Where a retired chunk lies, relative to the chunk folder."""
    return f"{TRASH}/{epoch}/{name}"


def take_back(held: Held, ledger: Ledger, address: Address) -> Row | None:
    """Revive a chunk if it is retired; its old row, or None when there was nothing to revive.

    The caller holds its shard lock, and is `writing`. *Durability*: as that of a received chunk, with the next flush.
    Raises OSError, sqlite3.Error; called again it goes on.
    """
    rows = ledger.retired([address])
    if not rows:
        return None
    row = rows[0]
    name = chunk_name(address)
    place = f"{name[:4]}/{name}"
    fd = held.folders.chunks
    held.hook("revive.file")
    try:
        held.prefixes.ensure(name[:4])
        held.reserve.retrying(lambda: os.rename(trash_path(row.epoch, name), place, src_dir_fd=fd, dst_dir_fd=fd))
    except FileNotFoundError:
        if not files.exists(place, dir_fd=fd):  # nobody's file any more: the row promises what is not there
            held.reserve.retrying(lambda: ledger.forget([address]))
            return None
    held.flusher.folder(f"{CHUNKS}/{TRASH}/{row.epoch}")
    held.flusher.folder(f"{CHUNKS}/{name[:4]}")
    held.hook("revive.row")
    held.reserve.retrying(lambda: ledger.revive([address]))
    return row
