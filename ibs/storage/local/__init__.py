"""The local store: chunks, snapshots and sessions in a folder of a file system. Public names are re-exported here.

Importable by `engine` and `app`; imports `core`, `ports` and `errors` only. One file a concern:

    store       LocalStore, the public face                       opening     the steps of opening
    create      a new store                                       recover     after a stop of any kind
    layout      names and small records on disk                   ownership   lock, owner and fence, generation
    receive     taking a chunk                                    reader      giving a chunk, telling rot from failure
    barrier     from received to durable                          publish     making a snapshot visible
    ledger      what is known about chunks                        chunkdb     the index behind it
    discard     deleting chunks                                   snapshots   listing, reading, removing snapshots
    workfolder  folders of sessions and readers                   probe       looking without touching
    durable     syncfs or fsync, and the memory of failure        space       floor and reserve
    gate        who is inside, shard locks                        held        descriptors that the parts share
    mode        what it may be used for                           bin         forgotten snapshots
    records     small records beside the identity
    inspect     checking many chunks
    trash       what garbage collection retired               revive      taking it back
    reindex     the index set right, online               attach      an existing store, for a new server
    files       small file work by descriptor                     trouble     translation of errors
"""

from __future__ import annotations

from ibs.storage.local.attach import Existing, find_existing
from ibs.storage.local.inspect import Checked
from ibs.storage.local.layout import group_folder, parse_folder, snapshot_folder
from ibs.storage.local.mode import peek_mode
from ibs.storage.local.opening import Options, Recovered
from ibs.storage.local.probe import Check, Expected, contains_store, find_store_above, probe_path
from ibs.storage.local.reindex import Reindexed, drop_index
from ibs.storage.local.snapshots import SnapshotFiles, Stamp
from ibs.storage.local.store import LocalStore
from ibs.storage.local.workfolder import WorkArea, WorkFolder

__all__ = [
    "Check",
    "Checked",
    "Existing",
    "Expected",
    "LocalStore",
    "Options",
    "Recovered",
    "Reindexed",
    "SnapshotFiles",
    "Stamp",
    "WorkArea",
    "WorkFolder",
    "contains_store",
    "drop_index",
    "find_existing",
    "find_store_above",
    "group_folder",
    "parse_folder",
    "peek_mode",
    "probe_path",
    "snapshot_folder",
]
