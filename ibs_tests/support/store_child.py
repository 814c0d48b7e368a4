"""A process that works on a store until it is killed: `python -m ibs_tests.support.store_child STORE [FIRST]`.

IBS_KILL_AT names the point. Every promise it gets from the store is one line on stdout, flushed, before it goes on.
`will` lines announce what may have happened by the time of the kill.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ibs.storage.local import LocalStore
from ibs.storage.wrap.faults import hook_from_environment
from ibs_tests.support.stores import StoreBox, make_blob, publish

ROUNDS = 3
CHUNKS_A_ROUND = 6
GARBAGE = 100_000
"""Numbers of chunks that no snapshot names."""


def say(what: str, **fields: Any) -> None:
    print(json.dumps({"what": what, **fields}), flush=True)


def folder_of(round_: int) -> str:
    return f"host/web01/2026-11-{round_ + 1:02}T00:00:00Z"


def chunks_of(round_: int) -> list[int]:
    """The chunks a round's snapshot names: its own, and two of the round before."""
    first = round_ * CHUNKS_A_ROUND
    shared = [first - 3, first - 2] if first else []
    return shared + list(range(first, first + CHUNKS_A_ROUND - 1))


def index_of(round_: int) -> bytes:
    return b"".join(make_blob(n)[0].id for n in chunks_of(round_))


def work(path: Path, first: int) -> None:
    """Rounds of: upload, barrier, publish; then delete the one chunk nobody names, and an old snapshot."""
    store = StoreBox(path).open(hook=hook_from_environment(os.environ))
    say("opened")
    for round_ in range(first, first + ROUNDS):
        numbers = range(round_ * CHUNKS_A_ROUND, (round_ + 1) * CHUNKS_A_ROUND)
        for n in numbers:
            store.put(*make_blob(n))
            say("received", n=n)
        if round_ % 2 == 0:
            store.barrier()
            say("durable", since=numbers[0], upto=numbers[-1])
        session = f"s{round_}"
        if session not in store.staging.names():
            store.staging.create(session)
        store.staging.folder(session).append("a.tree.idx", index_of(round_), at=0)
        if not (path / "ns" / folder_of(round_) / "manifest.json").exists():
            publish(store, folder_of(round_), a__tree__idx=f"{session}/a.tree.idx", log=b"log")
        say("published", round=round_)
        store.staging.remove(session)
        say("will discard", n=numbers[-1])
        store.discard([make_blob(numbers[-1])[0]])
        say("discarded", n=numbers[-1])
    collect(store, first)
    say("will remove", round=first)
    store.snapshots.remove(folder_of(first))
    say("removed", round=first)
    store.close()
    say("closed")


def collect(store: LocalStore, first: int) -> None:
    """Garbage that nobody names: retired, one of it revived, one put again, the rest reclaimed or deleted at once."""
    garbage = [GARBAGE + first * 10 + n for n in range(6)]
    for n in garbage:
        store.put(*make_blob(n))
    store.barrier()
    addresses = [make_blob(n)[0] for n in garbage]
    epoch = store.raise_epoch()
    say("will discard", n=garbage[5])
    store.retire(addresses[5:], epoch, since=0, keep=False)
    say("discarded", n=garbage[5])
    store.retire(addresses[:5], epoch, since=0)
    store.revive(addresses[:1])
    store.put(*make_blob(garbage[1]))
    store.barrier()
    for n in garbage[:2]:
        say("durable", since=n, upto=n)
    for n in garbage[2:5]:
        say("will discard", n=n)
    store.reclaim(epoch)
    for n in garbage[2:5]:
        say("discarded", n=n)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
