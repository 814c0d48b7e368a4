"""Who uses the simulated server: backups, restores, verifications, clean-ups, and mishaps. Each is one short errand.

An actor takes part in the world by its promises (`model`), and says which errors have a reason (`excuses`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.engine.verify import verify_snapshot
from ibs.errors import ChunkNotFound, ConflictError, CorruptChunk, IbsError
from ibs.storage.local.layout import OWNER, Owner, encode_record
from ibs_tests.sim import backup, collect, restore, upkeep
from ibs_tests.sim.alphabet import by_name
from ibs_tests.sim.disk import File, Folder
from ibs_tests.sim.model import IN_BIN, IN_PLACE, State, Violation
from ibs_tests.sim.world import World

Actor = Callable[[World], Awaitable[None]]


def pick_snapshot(world: World) -> Any:
    """One that clients believe in, or None."""
    known = [each for each in world.model.snapshots.values() if each.readable]
    return world.rng.choice(known) if known else None


async def verify(world: World) -> None:
    """Verify a snapshot, rather one that is hurt: what it says must be true."""
    hurt = [
        each
        for each in world.model.snapshots.values()
        if each.readable and not all(map(world.model.there, each.letters))
    ]
    snapshot = world.rng.choice(hurt) if hurt and world.rng.random() < 0.7 else pick_snapshot(world)
    if snapshot is None:
        return
    model = world.model
    spoiled_before = {name for name in snapshot.letters if not model.there(name)}
    spoiled_ever = set(model.ever_spoiled)
    report = await verify_snapshot(world.datastore, SnapshotName.parse(snapshot.name))
    world.alive()
    world.count(f"verified {report.result}")
    world.tell(f"verify {snapshot.name}: {report.result} {report.first_failure[:60]}")
    still = {name for name in spoiled_before if not model.there(name)}
    if report.result == "OK" and still & spoiled_before and not healed_meanwhile(world, still):
        raise Violation("verification finds what is bad", f"{snapshot.name}: {sorted(still)[0][:16]}")
    if report.result != "OK" and not (spoiled_ever | model.ever_spoiled) & snapshot.letters:
        raise Violation("verification finds only what is bad", f"{snapshot.name}: {report.first_failure}")


def healed_meanwhile(world: World, names: set[str]) -> bool:
    """Whether whole copies of all of them wait for their barrier: those are what was read."""
    return all(world.model.received(name) for name in names)


async def cleanup(world: World) -> None:
    """Remove what interrupted sessions left."""
    gone = await world.datastore.cleanup()
    world.tell(f"cleanup: {gone.sessions} sessions, {gone.chunks} chunks")
    world.count("cleanup chunks", gone.chunks)


async def expire(world: World) -> None:
    """The gc role's round, after some silence."""
    if world.rng.random() < 0.5:
        await trio.sleep(
            world.rng.choice((30, limits.SESSION_IDLE_SECONDS_MAX + 1, limits.READER_IDLE_SECONDS_MAX + 1))
        )
    world.alive()
    await world.datastore.expire()


async def forget(world: World) -> None:
    """Move a snapshot to the bin."""
    snapshot = pick_snapshot(world)
    if snapshot is None:
        return
    model, datastore = world.model, world.datastore
    hold = world.quarantined
    before, snapshot.state = snapshot.state, State.FORGETTING
    snapshot.forgotten_at = trio.current_time()
    world.excuses.add("forget")
    try:
        await datastore.bin.put(SnapshotName.parse(snapshot.name), "alice@ibs", "a whim")
    except IbsError as error:
        world.refused("forget", error)
        snapshot.state = before if model.where(snapshot) == IN_PLACE else State.FORGETTING
        return
    world.alive()
    world.check_hold(hold, "forgetting a snapshot")
    if snapshot.state is State.FORGETTING:  # else it has left the bin already
        snapshot.state = State.BINNED
    world.tell(f"forgotten {snapshot.name}")
    world.count("forgotten")


def pick_binned(world: World) -> Any:
    """One that should be in the bin, or None."""
    known = [each for each in world.model.snapshots.values() if each.state is State.BINNED]
    return world.rng.choice(known) if known else None


async def undo(world: World) -> None:
    """Take a snapshot out of the bin again."""
    snapshot = pick_binned(world)
    if snapshot is None:
        return
    snapshot.state = State.UNDOING
    taken = any(each.readable and each.name == snapshot.name for each in world.model.snapshots.values())
    try:
        await world.datastore.bin.undo(entry_of(world, snapshot))
    except ConflictError:
        world.alive()
        snapshot.state = State.BINNED
        world.count("undo refused")
        return
    except IbsError as error:
        world.refused("undo", error)
        after = {IN_BIN: State.BINNED, IN_PLACE: State.UNDOING}
        snapshot.state = after.get(world.model.where(snapshot), State.LEAVING)
        return
    world.alive()
    snapshot.state = State.ACKNOWLEDGED
    if taken:
        world.model.check(when="after an undo")
    world.tell(f"undone {snapshot.name}")
    world.count("undone")
    world.excuses.add("undone")  # a backup that was given the same second while it was in the bin is refused


async def purge(world: World) -> None:
    """Remove a snapshot from the bin for good."""
    snapshot = pick_binned(world)
    if snapshot is None or len(world.model.places()[snapshot.manifest]) > 1:
        return
    snapshot.state, hold = State.PURGING, world.quarantined
    world.excuses.add("forget")  # a collection that empties the bin may be faster
    try:
        await world.datastore.bin.purge(entry_of(world, snapshot))
    except IbsError as error:
        world.refused("purge", error)
        snapshot.state = State.BINNED if world.model.where(snapshot) == IN_BIN else State.FADING
        return
    world.alive()
    world.check_hold(hold, "emptying the bin")
    snapshot.state = State.GONE
    world.tell(f"purged {snapshot.name}")
    world.count("purged")


def entry_of(world: World, snapshot: Any) -> str:
    """The name of its entry in the bin."""
    return str(world.model.places()[snapshot.manifest][0][1])


async def grace(world: World) -> None:
    """Days go by; what is in the bin goes when its time has come, unless the clock cannot be trusted."""
    time = world.datastore.context.time
    if time.frozen and world.rng.random() < 0.7:
        before = time.now()
        await world.datastore.context.pool.disk(time.confirm, "alice@ibs")
        world.alive()
        world.confirmed += time.now() - before
    await trio.sleep(world.rng.choice((86_400, 3 * 86_400, 8 * 86_400)))
    world.alive()
    await world.datastore.expire()
    world.count("grace passed" if not time.frozen else "grace frozen")


async def flip(world: World) -> None:
    """A bit of a stored chunk turns over, on the platter and in the cache."""
    files = [
        (path, file)
        for path, file in world.machine.disk.walk("chunks")
        if path.rpartition("/")[2] in by_name() and file.data and not path.startswith("chunks/incoming")
    ]
    if not files:
        return
    promised = {name for promise in world.model.promises if promise.holds() for name in promise.letters}
    wanted = [each for each in files if each[0].rpartition("/")[2] in promised]
    path, file = world.rng.choice(wanted if wanted and world.rng.random() < 0.5 else files)
    name = path.rpartition("/")[2]
    if name in world.model.spoiled:
        return
    at = world.rng.randrange(len(file.data))
    file.data[at] ^= 1 << world.rng.randrange(8)
    file.version += 1
    file.synced = bytes(file.data) if not file.dirty else file.synced
    world.model.spoil(name)
    world.excuses.add("spoiled")
    world.tell(f"a bit flips in {path}")
    world.count("flipped")
    if world.rng.random() < 0.5:  # and somebody reads it at once
        try:
            await world.datastore.context.pool.disk(world.datastore.store.get, by_name()[name].address)
        except (CorruptChunk, ChunkNotFound):
            world.count("flipped and found")


async def evict(world: World) -> None:
    """Memory is short: clean pages are read from the disk again."""
    for _, file in list(world.machine.disk.walk()):
        world.machine.disk.drop_cache(file)


async def fill_disk(world: World) -> None:
    """Somebody else uses up the disk, and gives it back after a while."""
    disk = world.machine.disk
    world.excuses.add("space")
    disk.foreign += max(0, disk.free - world.rng.choice((0, 700, 5000, 50_000)))
    world.tell(f"the disk is full: {disk.free} bytes free")
    for _ in range(6):
        await world.pause()
    disk.foreign = 0
    world.tell("the disk has room again")


async def flush_error(world: World) -> None:
    """The next flush cannot write some pages. It says so once."""
    world.machine.disk.flush_fails = 1
    world.excuses.add("flush")
    world.tell("the next flush will fail")


async def read_error(world: World) -> None:
    """The next reads fail, which says nothing about the data."""
    world.machine.disk.reads_fail = world.rng.randint(1, 3)
    world.excuses.add("read")
    world.tell("the next reads will fail")


async def jump_clock(world: World) -> None:
    """Somebody sets the wall clock."""
    world.jumps += 1
    world.machine.clock.wall_offset += world.rng.choice((-7200, -1, 1, 60, 7200, 86400 * 3, 86400 * 10))
    world.tell(f"the wall clock is off by {world.machine.clock.wall_offset}")


async def take_over(world: World) -> None:
    """Another server writes itself into the owner record, as one that mounted the same disk would."""
    meta = world.machine.disk.look(".ibs")
    assert isinstance(meta, Folder)
    record = meta.entries[OWNER]
    assert isinstance(record, File)
    record.data[:] = encode_record(Owner(server="somebody-else", fence=99))
    record.synced = bytes(record.data)
    record.version += 1
    world.taken_over = True
    world.excuses.add("owner")
    world.tell("another server takes the store over")


ACTORS: dict[str, tuple[int, Actor]] = {
    "backup": (40, backup.backup),
    "stranger": (2, backup.stranger),
    "restore": (10, restore.restore),
    "verify": (5, verify),
    "cleanup": (8, cleanup),
    "expire": (5, expire),
    "forget": (9, forget),
    "undo": (4, undo),
    "purge": (6, purge),
    "grace": (3, grace),
    "gc": (9, collect.collect),
    "gc undo": (4, collect.take_back),
    "prune": (4, upkeep.prune_by_rule),
    "quarantine": (3, upkeep.quarantine),
    "namespace": (3, upkeep.namespace),
    "move": (4, upkeep.move),
    "reindex": (3, upkeep.reindex),
    "flip": (2, flip),
    "evict": (2, evict),
    "full disk": (2, fill_disk),
    "flush error": (1, flush_error),
    "read error": (1, read_error),
    "clock jump": (2, jump_clock),
    "takeover": (1, take_over),
}
MISHAPS = ("flip", "full disk", "flush error", "read error", "takeover")
PEACEFUL = tuple(name for name in ACTORS if name not in MISHAPS)


def choose(world: World) -> tuple[str, Actor]:
    """The next errand."""
    if not world.weights:
        world.weights = _temper(world)
    name = world.rng.choices(list(world.weights), list(world.weights.values()))[0]
    return name, ACTORS[name][1]


def _temper(world: World) -> dict[str, int]:
    """Each world has its own: some are peaceful, some are haunted by one kind of mishap."""
    if world.rng.random() < 0.3:
        return {name: ACTORS[name][0] for name in PEACEFUL}
    if world.rng.random() < 0.35:  # little but backups and one or two other things, all the time
        few = world.rng.sample([name for name in ACTORS if name != "backup"], 2)
        return {"backup": 5, few[0]: 4, few[1]: 2, "forget": 1}
    factors = (0, 1, 1, 2, 4, 12)
    return {
        name: weight * (1 if name == "backup" else world.rng.choice(factors)) for name, (weight, _) in ACTORS.items()
    }


__all__ = ["ACTORS", "choose"]
