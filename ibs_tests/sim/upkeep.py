"""What administrators do beside it all: prune, quarantine and release, namespaces, moves, reindexing.

Whatever leaves its place on the way goes through `WatchedBin`, so that the model knows of it, and what the server
publishes by itself is compared with what it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import trio
from blake3 import blake3

from ibs.core.modes import ModeRecord, Quarantine
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.core.retention import Policy
from ibs.engine import holding, moving, prune
from ibs.engine.namespaces import Namespaces
from ibs.errors import BusyError, ConflictError, IbsError, NotFoundError, RefusedError, UsageError
from ibs.storage.local import LocalStore
from ibs.storage.local.layout import snapshot_folder
from ibs_tests.sim.disk import Folder
from ibs_tests.sim.model import IN_PLACE, Snapshot, State, Violation
from ibs_tests.sim.world import World

WHO = "alice@ibs"
SPACES = ("a", "b")


class WatchedBin:
    """The bin, for use cases that move snapshots there by themselves. `keep`: so many newer ones must be in place."""

    def __init__(self, world: World, keep: int = 0) -> None:
        self._world = world
        self._keep = keep
        self._real = world.datastore.bin

    async def put(self, name: SnapshotName, by: str, why: str = "") -> Any:
        return await self._watched(self._real.put, name, by, why)

    async def put_held(self, name: SnapshotName, by: str, why: str = "") -> Any:
        self._check_newer(name)
        return await self._watched(self._real.put_held, name, by, why)

    def _check_newer(self, name: SnapshotName) -> None:
        group = str(SnapshotName(name.namespace, name.group))
        known = [SnapshotName.parse(one.name).time for one in self._world.in_place(group)]
        newer = sum(1 for time in known if time is not None and name.time is not None and time > name.time)
        if newer < self._keep:
            raise Violation("pruning keeps the newest", f"{name} goes, and only {newer} newer ones are there")

    async def _watched(self, put: Any, name: SnapshotName, by: str, why: str) -> Any:
        world, model = self._world, self._world.model
        found = [one for one in model.snapshots.values() if one.name == str(name) and model.where(one) == IN_PLACE]
        if not found:
            return await put(name, by, why)
        snapshot, before = found[0], found[0].state
        snapshot.state, snapshot.forgotten_at = State.FORGETTING, trio.current_time()
        world.excuses.add("forget")
        try:
            done = await put(name, by, why)
        except IbsError:
            world.alive()
            snapshot.state = before if model.where(snapshot) == IN_PLACE else State.FORGETTING
            raise
        world.alive()
        if snapshot.state is State.FORGETTING:  # else it has left the bin already
            snapshot.state = State.BINNED
        world.count("binned by upkeep")
        return done


async def prune_by_rule(world: World) -> None:
    """Plan, think, act: what the rule keeps stays, whatever happened in between."""
    context, keep = world.datastore.context, world.rng.randint(1, 3)
    hold = world.quarantined
    scope = prune.Scope(policy=Policy(keep_last=keep))
    planned = await prune.plan(context, world.datastore.retention, scope)
    await world.pause()
    override = world.rng.random() < 0.7
    watched: Any = WatchedBin(world, keep)
    done = await prune.execute(
        context, watched, planned, WHO, lambda *_: None, retention=world.datastore.retention, override=override
    )
    world.alive()
    world.check_hold(hold, "a prune")
    world.count("pruned", len(done.removed))
    world.tell(f"prune by keep-last {keep}: {len(done.removed)} to the bin, {done.kept} kept")


async def quarantine(world: World) -> None:
    """Somebody distrusts the store, and after a while trusts it again."""
    datastore = world.datastore
    if datastore.context.modes.record.quarantine is not None:
        await release(world)
        return
    world.excuses.add("quarantine")
    record = ModeRecord(quarantine=Quarantine(reason="a drill", since="", by=WHO))
    async with world.mode_lock:  # the entry's lock, in the product
        unnoted = await holding.tighten(datastore, record)
        world.alive()
        world.noted = not unnoted
        await holding.end_forbidden(datastore, "it was quarantined")
        world.alive()
        world.holds += 1
        world.quarantined = world.holds
    world.tell(f"quarantined{'; not noted' if unnoted else ''}")
    world.count("quarantined")
    for _ in range(world.rng.randint(1, 8)):
        await world.pause()
    await release(world)


async def release(world: World) -> None:
    """The quarantine ends; from before it is noted to after it is in force anything may be true."""
    async with world.mode_lock:
        if world.datastore.context.modes.record.quarantine is None:
            return
        world.quarantined, world.noted = 0, False
        try:
            await holding.loosen(world.datastore, ModeRecord())
        except IbsError as error:
            world.refused("release", error)
            return
        world.alive()
    world.tell("released")


async def namespace(world: World) -> None:
    """Make one, or remove one with all that is in it."""
    space = Namespace.parse(world.rng.choice(SPACES))
    hold = world.quarantined
    watched: Any = WatchedBin(world)
    spaces = Namespaces(world.datastore.context, watched)
    try:
        if world.rng.random() < 0.4:
            await spaces.create(space)
        else:
            gone = await spaces.remove(space, WHO, recursive=world.rng.random() < 0.7)
            world.count("namespace removed")
            world.tell(f"namespace {space} removed, {len(gone.to_bin)} snapshots to the bin")
    except (ConflictError, NotFoundError):
        world.alive()
        return
    world.alive()
    world.check_hold(hold, "a change of namespaces")


async def move(world: World) -> None:
    """A group gets another namespace."""
    groups = sorted({one.group for one in world.model.snapshots.values() if one.readable})
    if not groups:
        return
    name = SnapshotName.parse(world.rng.choice(groups))
    target = Namespace.parse(world.rng.choice(("", *SPACES)))
    hold = world.quarantined

    def busy(space: Namespace, group: Group) -> bool:
        facts = [one.facts.name for one in world.datastore.sessions.open_sessions]
        return any((one.namespace, one.group) == (space, group) for one in facts)

    watched: Any = WatchedBin(world)
    try:
        done = await moving.move_group(world.datastore.context, watched, name, target, WHO, busy=busy)
    except (ConflictError, NotFoundError, RefusedError, UsageError, BusyError):
        world.alive()
        world.count("move refused")
        return
    finally:
        if not world.machine.dead:
            _believe_moved(world)
    world.alive()
    world.check_hold(hold, "a move")
    world.count("moved", len(done.snapshots))
    world.tell(f"{name} moved to {target or 'the root'}: {len(done.snapshots)} snapshots")
    world.model.check(when=f"after the move of {name}")


def _believe_moved(world: World) -> None:
    """What the server has published by itself is durable from then on, however the move went on."""
    for snapshot in world.made_by_server:
        if snapshot.state is State.COMMITTING and world.model.where(snapshot) == IN_PLACE:
            snapshot.state = State.ACKNOWLEDGED


def watch_publishing(world: World, store: LocalStore) -> None:
    """Notice what the server publishes by itself."""
    publish = store.publish

    def watched(folder: str, files: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        raw = files["manifest.json"]
        assert isinstance(raw, bytes)
        known = world.model.snapshots.get(raw)
        if known is None or (known.by_server and world.model.where(known) != IN_PLACE):
            note_published(world, raw)
        publish(folder, files, last)

    store.publish = watched  # type: ignore[method-assign]


def note_published(world: World, raw: bytes) -> None:
    """The server publishes a manifest that no client sent: it must be made from one of ours.

    Moved, forgotten, undone where it came from and moved again, a snapshot is made once more, the same to the byte.
    """
    again = world.model.snapshots.get(raw)
    if again is not None:
        again.state = State.COMMITTING
        return
    stated = msgspec.json.decode(raw)
    model = world.model
    sources = [one for one in model.snapshots.values() if blake3(one.manifest).hexdigest() == stated.get("source")]
    if not sources:
        raise Violation("nothing half visible", f"{stated['snapshot']} comes from nowhere")
    source, name = sources[0], SnapshotName.parse(stated["snapshot"])
    before = msgspec.json.decode(source.manifest)
    changed = {key for key in stated.keys() | before.keys() if stated.get(key) != before.get(key)}
    if not changed <= {"snapshot", "previous", "source"}:
        raise Violation("a moved snapshot is what it was", f"{name}: {sorted(changed)}")
    made = Snapshot(
        by_server=True,
        name=str(name),
        folder=snapshot_folder(name),
        group=str(SnapshotName(name.namespace, name.group)),
        owner=source.owner,
        manifest=raw,
        digests=source.digests,
        records=source.records,
        blobs=source.blobs,
        letters=source.letters,
        encrypted=source.encrypted,
    )
    model.asked(made)
    world.made_by_server.append(made)


async def reindex(world: World) -> None:
    """The index is set right by the folders, while everybody goes on."""
    datastore = world.datastore
    chunks = world.machine.disk.look("chunks")
    assert isinstance(chunks, Folder)
    prefixes = sorted(int(name, 16) for name in chunks.entries if len(name) == 4)
    fixed = 0
    for number in prefixes:
        done = await datastore.context.pool.disk(datastore.store.reindex, number, number + 1)
        world.alive()
        fixed += done.fixed
    world.count("reindexed")
    world.tell(f"reindex of {len(prefixes)} folders: {fixed} rows set right")
