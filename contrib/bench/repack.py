"""How much waste the chunks of a tree keep over many generations, with and without packing anew.

    repack.py [--files 8000] [--generations 30] [--share 0.02] [--thin 0.9]

One process, a server in memory, small files of noise. First a share of the files is replaced in each generation; then,
on a fresh tree, a share is removed at once. One line a generation.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trio

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.repack import Survey
from ibs.core import index, limits
from ibs.core.blob import BlobDecoder
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs_tests.support.backups import MemoryServer, back_up


def waste(server: MemoryServer) -> tuple[int, int]:
    """(bytes in no use, all bytes) of the newest snapshot's data chunks."""
    content = server.snapshots[-1].indexes["data.tree"]
    count = index.parse_header(content).records
    base = BaseIndex(content, b"\xff" * (count // 8 + 1), domain=bytes(32))
    decoder = BlobDecoder()

    def fetch(chunk_id: bytes) -> bytes:
        address = Address(PLAIN_DOMAIN, chunk_id)
        return decoder.decode(server.chunks[address], want=address)

    survey = Survey(base, fetch)
    while survey.step():
        pass
    plan = survey.plan()
    return plan.waste_bytes, plan.archive_bytes


def generations(
    files: int, count: int, edit: Callable[[Path, random.Random, int], None], title: str, *, repack: bool
) -> None:
    """Make a tree, edit and back up again and again, print what is wasted."""
    limit = limits.REPACK_READ_PERCENT
    limits.REPACK_READ_PERCENT = limit if repack else 0  # type: ignore[misc]
    rng = random.Random(7)
    tree = Path(tempfile.mkdtemp())
    try:
        for number in range(files):
            (tree / f"{number:06}").write_bytes(rng.randbytes(rng.randrange(100, 40_000)))
        server = MemoryServer()
        trio.run(lambda: back_up(server, tree))
        packed = sent = 0
        for generation in range(1, count + 1):
            edit(tree, rng, generation)
            outcome, _ = trio.run(lambda: back_up(server, tree, reread_every=0))
            packed += outcome.bytes_repacked
            sent += outcome.bytes_sent
            if generation < 10 or not generation % 10:
                unused, total = waste(server)
                print(
                    f"{title:10} {'repack' if repack else 'none':7} generation {generation:3}: "
                    f"{total / 1e6:6.1f} MB in chunks, {100 * unused / total:4.1f} % waste, "
                    f"packed anew so far {packed / 1e6:6.1f} MB, sent {sent / 1e6:6.1f} MB"
                )
    finally:
        limits.REPACK_READ_PERCENT = limit  # type: ignore[misc]
        shutil.rmtree(tree)


def main() -> None:
    """Both patterns, without and with packing anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8000)
    parser.add_argument("--generations", type=int, default=30)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--thin", type=float, default=0.9)
    options = parser.parse_args()

    def churn(tree: Path, rng: random.Random, _generation: int) -> None:
        for path in sorted(tree.iterdir()):
            if rng.random() < options.share:
                path.write_bytes(rng.randbytes(rng.randrange(100, 40_000)))

    def thin(tree: Path, rng: random.Random, generation: int) -> None:
        for path in sorted(tree.iterdir()) if generation == 1 else []:
            if rng.random() < options.thin:
                path.unlink()

    for repack in (False, True):
        generations(options.files, options.generations, churn, "churn", repack=repack)
        generations(options.files, 12, thin, "thinned", repack=repack)


if __name__ == "__main__":
    main()
