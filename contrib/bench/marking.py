"""How long marking takes for garbage collection, on made-up ids: `python contrib/bench/marking.py [REFERENCES …]`.

For each number of references (default: 1, 4, 16, 31 and 62 million) a store has as many chunks as a server of that
size would have, a twentieth of that, and snapshots that refer to 19 of 20 of them again and again in their own order.
Printed are the seconds to make the table and to mark, on the clock and of a core, references a second, and the growth
of the process's peak memory. References are made a snapshot at a time, outside the clock, as they come from an index.
"""

from __future__ import annotations

import resource
import sys
from time import perf_counter, thread_time

import numpy as np

from ibs.core.marking import ChunkTable, passes

PER_SNAPSHOT = 250_000


def run(references: int, share: float = 20.67) -> None:
    generator = np.random.default_rng(references)
    chunks = int(references / share)
    ids = generator.integers(0, 256, (chunks, 32), dtype=np.uint8)
    ids = ids[np.argsort(np.ascontiguousarray(ids[:, :8]).view(">u8").ravel())]  # as the chunk index gives them
    every, none = np.ones(chunks, dtype=np.bool_), np.zeros(chunks, dtype=np.bool_)
    sizes = np.full(chunks, 700_000, dtype=np.int64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = marked = busy = 0.0
    parts = passes(chunks)
    unmarked = 0
    alive = chunks * 19 // 20
    for part in parts:
        began = perf_counter()
        table = ChunkTable(part)
        inside = (ids[:, 0] >= part.first[0]) & (ids[:, 0] <= part.last[0]) if len(parts) > 1 else every
        table.add(ids[inside], sizes[inside], every[inside], none[inside])
        table.seal()
        made += perf_counter() - began
        order = np.random.default_rng(1).permutation(chunks)[:alive]
        for start in range(0, references, PER_SNAPSHOT):
            some = ids[order[np.arange(start, min(start + PER_SNAPSHOT, references)) % alive]]
            began, worked = perf_counter(), thread_time()
            for _ in table.mark(some):
                raise SystemExit("a reference to no chunk")
            marked += perf_counter() - began
            busy += thread_time() - worked
        unmarked += table.unmarked_chunks
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{references / 1e6:8.0f} M references {chunks / 1e6:8.2f} M chunks {len(parts):3} passes"
        f" table {made:6.2f} s marking {marked:6.2f} s ({busy:.2f} s of a core) {references / marked / 1e6:6.1f} M/s"
        f" memory +{(peak - before) / 1024:6.0f} MiB unreferred {unmarked / chunks:5.1%}",
        flush=True,
    )


if __name__ == "__main__":
    for wanted in [int(float(each) * 1_000_000) for each in sys.argv[1:]] or [10**6 * n for n in (1, 4, 16, 31, 62)]:
        run(wanted)
