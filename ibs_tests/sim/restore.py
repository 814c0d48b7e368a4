"""A client's restore in the simulated world: never wrong bytes, whatever happens to the snapshot meanwhile."""

from __future__ import annotations

from random import Random

from blake3 import blake3

from ibs.core.blob import BlobDecoder
from ibs.core.index import ZERO_ID
from ibs.engine.readers import Reader
from ibs.errors import ChunkNotFound, CorruptChunk, IbsError
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs_tests.sim.alphabet import KEYS, Letter, by_id
from ibs_tests.sim.model import Promise, Snapshot, Violation
from ibs_tests.sim.world import World

READER = "alice@ibs"


async def restore(world: World) -> None:
    """Read a whole snapshot under a lease; sometimes leave without a word."""
    rng = Random(world.rng.random())
    known = [each for each in world.model.snapshots.values() if each.readable]
    if not known:
        return
    snapshot = rng.choice(known)
    reader = await world.datastore.readers.open(READER, ReaderOpen(snapshot=snapshot.name), everything=True)
    world.alive()
    world.model.promises[Promise(f"reader {reader.reader_id[:6]}", lambda: not reader.over, set(snapshot.letters))] = (
        None
    )
    world.tell(f"restore of {snapshot.name} opens {reader.reader_id[:6]}")
    for archive in snapshot.records:
        await _archive(world, rng, snapshot, reader, archive)
    world.count("restored")
    if rng.random() < 0.9:
        await world.datastore.readers.close_reader(reader.reader_id, READER, ReaderClose())


async def _archive(world: World, rng: Random, snapshot: Snapshot, reader: Reader, archive: str) -> None:
    index = await reader.file(f"{archive}.idx")
    world.alive()
    if blake3(index).hexdigest() != snapshot.digests[archive] or index[256:] != snapshot.records[archive]:
        raise Violation("never wrong bytes", f"index of {archive} in {snapshot.name}")
    size = 40 if archive.endswith(".tree") else 32
    ids = [index[at : at + 32] for at in range(256, len(index), size)]
    wanted = [one for one in dict.fromkeys(ids) if one != ZERO_ID]
    known = by_id(encrypted=snapshot.encrypted)
    while wanted:
        count = rng.randint(1, 5)
        some, wanted = [known[one] for one in wanted[:count]], wanted[count:]
        await _fetch(world, snapshot, reader, some)
        await world.pause()


async def _fetch(world: World, snapshot: Snapshot, reader: Reader, some: list[Letter]) -> None:
    try:
        blobs = await reader.fetch([letter.address.id for letter in some])
    except (ChunkNotFound, CorruptChunk) as error:
        world.alive()
        if not world.model.ever_spoiled & {letter.name for letter in some}:
            raise Violation("nothing acknowledged is lost", f"{snapshot.name}: {error.message}") from error
        world.count("restore met a bad chunk")
        return
    world.alive()
    decoder = BlobDecoder(keys=KEYS if snapshot.encrypted else None)
    for letter, blob in zip(some, blobs, strict=True):
        try:
            plain = decoder.decode(blob, want=letter.address)
        except IbsError as error:
            raise Violation("never wrong bytes", f"{letter.name[:16]}: {error.message}") from error
        if plain != letter.plain:
            raise Violation("never wrong bytes", f"chunk {letter.name[:16]} of {snapshot.name}")
