"""A process that moves a snapshot to the bin and back until it is killed: `-m ibs_tests.support.bin_child STORE`.

IBS_KILL_AT names the point. Every answer it gets is one line on stdout, flushed, before it goes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ibs.storage.wrap.faults import hook_from_environment
from ibs_tests.support.stores import SNAPSHOT, StoreBox, publish

OTHER = "host/web01/2026-11-23T19:00:00Z"
CONTENT = {"a.tree.idx": b"index", "manifest.sig": b"signature", "manifest.json": b"{}"}


def say(what: str) -> None:
    print(what, flush=True)


def work(path: Path) -> None:
    store = StoreBox(path).open(hook=hook_from_environment(os.environ))
    for folder in (SNAPSHOT, OTHER):
        publish(store, folder, a__tree__idx=CONTENT["a.tree.idx"])
    say("published")
    store.bin.put(SNAPSHOT, "e1", b"record 1")
    say("binned")
    store.bin.undo("e1", SNAPSHOT)
    say("undone")
    store.bin.put(SNAPSHOT, "e2", b"record 2")
    say("binned again")
    store.bin.purge("e2")
    say("purged")
    store.close()
    say("closed")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
