"""A world: one seed's machine, its server process again and again, and all who use it at once.

The world runs eras. In each the store is opened and clients, verifications, clean-ups and mishaps run side by side
until the process is stopped, killed, or the power goes. At the end everything comes to rest and nothing may be left.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import trio
import trio.testing
from blake3 import blake3

from ibs.core import limits
from ibs.core.events import Event
from ibs.engine import holding
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.folders import SnapshotFolders
from ibs.engine.gc.plan import Options
from ibs.engine.modes import Modes
from ibs.errors import IbsError
from ibs.runtime.clock import START
from ibs.storage.local import LocalStore
from ibs.storage.local import Options as StoreOptions
from ibs_tests.sim.alphabet import Register
from ibs_tests.sim.disk import File, Folder, Node
from ibs_tests.sim.machine import MOUNT, Killed, Machine
from ibs_tests.sim.model import IN_BIN, IN_PLACE, Model, Snapshot, State, Violation
from ibs_tests.sim.mutants import Mutant
from ibs_tests.sim.threads import Stuck

UUID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SERVER = "11111111-2222-4333-8444-555555555555"
SEED = bytes(range(32))
STEPS = 40
KILL_POINTS = [
    "put.write",
    "put.temp",
    "put.rename",
    "barrier.sync",
    "barrier.promote",
    "barrier.record",
    "publish.index",
    "publish.sync",
    "publish.manifest.temp",
    "publish.manifest.rename",
    "publish.manifest.done",
    "discard.sync",
    "discard.row",
    "discard.file",
    "recover.promote",
    "recover.rebuild",
    "recover.sweep",
    "bin.record",
    "bin.rename",
    "bin.done",
    "undo.rename",
    "undo.done",
    "purge.manifest",
    "purge.files",
    "retire.row",
    "retire.file",
    "retire.free",
    "revive.file",
    "revive.row",
    "reclaim.row",
    "reclaim.file",
    "reindex.row",
]


@dataclass
class Outcome:
    """What one seed gave."""

    seed: int
    violation: str = ""
    rule: str = ""
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)


class World:
    """Made for one seed, run once."""

    def __init__(self, seed: int, *, steps: int = STEPS) -> None:
        self.seed = seed
        self.steps = steps
        self.rng = Random(f"{seed} world")
        self.outcome = Outcome(seed)
        self._hash = blake3()
        self.machine = Machine(seed, self.tell)
        self.machine.digest = self._hash.update
        self.model = Model(self.machine.disk)
        self.excuses: set[str] = set()
        self.taken_over = False
        self.jumps = 0
        self.confirmed = 0
        self.emptying_bin = self.no_grace = 0
        self.quarantined = self.holds = 0
        """The number of the quarantine that is in force, with all it forbids ended; 0 while there is none."""
        self.noted = False
        self.mode_lock = trio.Lock()
        self.made_by_server: list[Snapshot] = []
        self.retired_at: dict[File, float] = {}
        self.weights: dict[str, int] = {}
        self.letters = self.rng.choice((4, 8, 24))
        """How many chunks there are: the fewer, the more often sessions meet in one."""
        self.events: list[Event] = []
        self.datastore: Datastore
        self._entropy = Random(f"{seed} entropy")
        self._seen = 0
        self._takeover = False
        self._began = False
        self.machine.os.before_unlink = self._on_unlink
        self.machine.os.before_rename = self._on_rename

    # --- telling ---

    def tell(self, text: str) -> None:
        """A line of the trace."""
        line = f"{self.machine.calls:6d} {text}"
        self.outcome.trace.append(line)
        self._hash.update(line.encode())

    def count(self, what: str, number: int = 1) -> None:
        self.outcome.counts[what] += number

    def in_place(self, group: str) -> list[Snapshot]:
        """The group's snapshots that are in their place on the disk, whatever is thought of them."""
        places = self.model.places()
        return [
            one
            for raw, one in self.model.snapshots.items()
            if one.group == group and raw in places and places[raw][0][0] == IN_PLACE
        ]

    # --- the disk's watchers ---

    def _on_unlink(self, folder: Folder, name: str, file: File) -> None:
        if name == "manifest.json":
            self._on_manifest_gone(bytes(file.data), folder)
        elif len(name) >= 64:
            if self._is_prefix(folder, name):
                self.model.check_unlink(name, file)
            elif file in self.retired_at:
                self._on_trash_gone(name, file)

    def _is_prefix(self, folder: Folder, name: str) -> bool:
        return self.machine.disk.look(f"chunks/{name[:4]}") is folder

    def _on_trash_gone(self, name: str, file: File) -> None:
        passed = trio.current_time() - self.retired_at.pop(file)
        if self.no_grace or self.machine.disk.foreign or passed >= limits.GC_TRASH_GRACE_SECONDS - self._believed():
            self.count("trash emptied")
        elif not self.model.there(name):
            raise Violation("the trash has its grace", f"chunk {name[:16]} goes after {passed:.0f} seconds")

    def _believed(self) -> int:
        """By how much the store's clock may run ahead: small jumps, and large ones that somebody confirmed."""
        return self.confirmed + limits.CLOCK_JUMP_SECONDS_MAX * (self.machine.boots + self.jumps)

    def _on_manifest_gone(self, raw: bytes, folder: Folder) -> None:
        """A snapshot goes for good: because somebody said so, or because its grace is over."""
        snapshot = self.model.snapshots.get(raw)
        if snapshot is None or snapshot.state is State.PURGING or not snapshot.kept:
            return
        if snapshot.by_server and len(self.model.places()[raw]) > 1:
            return  # another, the same to the byte, stays
        if self.model.where(snapshot) != IN_BIN:
            raise Violation("nothing acknowledged is lost", f"the manifest of {snapshot.name} ({snapshot.state}) goes")
        passed = trio.current_time() - snapshot.forgotten_at
        if not self.emptying_bin and passed < limits.BIN_GRACE_SECONDS - self._believed():
            raise Violation("the bin has its grace", f"{snapshot.name} goes after {passed:.0f} seconds")
        snapshot.state = State.PURGING if snapshot.state is State.BINNED else State.LEAVING
        self.excuses.add("forget")
        self.count("bin expired")

    def _on_rename(self, source: Folder, old: str, target: Folder, new: str, node: Node) -> None:
        if not isinstance(node, File):
            return
        if new.endswith(".bad"):
            self.model.check_put_aside(new.removesuffix(".bad"), node)
        elif len(new) >= 64 and source is not target and self._is_prefix(source, old):
            self.model.check_unlink(old, node)
            if self.quarantined:
                raise Violation("a quarantined store keeps everything", f"chunk {old[:16]} goes to trash")
            self.retired_at[node] = trio.current_time()
            self.count("chunks retired")
        elif node in self.retired_at and self._is_prefix(target, new):
            del self.retired_at[node]
            self.count("chunks revived")

    def check_hold(self, before: int, what: str) -> None:
        """`what` was done, and began while the quarantine `before` was in force; 0 for none."""
        if before and before == self.quarantined:
            raise Violation("a quarantined store keeps everything", f"{what} was let through")

    # --- running ---

    def run(self) -> Outcome:
        """The whole run. What is found is in the outcome."""
        from trio._core import _run  # noqa: PLC0415 - trio's own switch for runs that repeat

        before = _run._ALLOW_DETERMINISTIC_SCHEDULING  # type: ignore[attr-defined]
        _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
        _run._r.seed(self.seed)
        try:
            with self.machine.running_product():
                trio.run(self._live, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            found = _find(error, (Violation, Stuck, KeyboardInterrupt))
            if found is None or isinstance(found, KeyboardInterrupt):
                raise
            self.outcome.rule = found.rule if isinstance(found, Violation) else "nobody waits for ever"
            self.outcome.violation = str(found)
            self.tell(f"VIOLATED {found}")
        finally:
            _run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[attr-defined]
            self.machine.bury(power_cut=False)
        self._sum_up()
        return self.outcome

    def _sum_up(self) -> None:
        counts, machine = self.outcome.counts, self.machine
        counts.update({f"point {point}": number for point, number in machine.passed.items()})
        counts.update({f"died at {point}": number for point, number in machine.died_at.items()})
        counts.update({f"fault {name}": number for name, number in machine.disk.faults.items()})
        counts.update({f"check {name}": number for name, number in self.model.checks.items()})
        counts["disk calls"] += machine.calls
        counts["thread switches"] += machine.threads.switches
        self.outcome.digest = self._hash.hexdigest()

    async def _live(self) -> None:
        machine = self.machine
        self.tell(
            f"seed {self.seed}: {'journalled' if machine.disk.journalled else 'loose'} disk,"
            f" {'syncfs' if machine.whole_flush else 'fsync each'}, restless {machine.threads.restless}"
        )
        LocalStore.create(MOUNT, "s1", UUID, created=START)
        machine.disk.flush_all()
        while self.steps > 0:
            await self._era()
        await self._rest()

    async def _era(self) -> None:
        """The life of one process."""
        self._arm()
        power_cut = self.rng.random() < 0.5
        clean = False
        try:
            clean = await self._process()
        except BaseException as error:
            worse = _find(error, (Violation, Stuck))
            if worse is not None:
                raise worse from None
            if not self.machine.dead or _find(error, (Killed,)) is None:
                raise
        if not clean:
            self.count("era.power cut" if power_cut else "era.killed")
            self.tell("POWER CUT" if power_cut else "KILLED")
        self._end(power_cut=power_cut and not clean)

    def _end(self, *, power_cut: bool) -> None:
        self.machine.bury(power_cut=power_cut)
        self.model.restarted(power_cut=power_cut)
        self.model.check(when="after the end of the process")
        if power_cut:
            self.model.check_final()
        self.machine.disk.reads_fail = self.machine.disk.flush_fails = 0
        self.excuses.clear()
        self.emptying_bin = self.no_grace = self.quarantined = 0
        self.excuses |= {"spoiled"} if self.model.ever_spoiled else set()
        if self.rng.random() < 0.5:
            self.machine.disk.foreign = 0
        self.excuses |= {"space"} if self.machine.disk.foreign else set()
        if self.taken_over:
            self._takeover, self.taken_over = True, False

    def _arm(self) -> None:
        """Decide when this process dies, if it does."""
        machine, rng = self.machine, self.rng
        kind = rng.randrange(10)
        if kind < 3:
            machine.die_at_call = machine.calls + int(rng.expovariate(1 / 600)) + 1
        elif kind < 7:
            machine.die_at_point = (rng.choice(KILL_POINTS), 1 + int(rng.expovariate(1 / 3)))

    async def _process(self) -> bool:
        """Open, work, end. True when it ended in order."""
        from ibs_tests.sim.actors import choose  # noqa: PLC0415 - they know the world

        try:
            await self.open()
        except IbsError as error:  # a store that cannot be opened now is opened another time
            self.refused("open", error)
            self.machine.threads.dead = True
            self.machine.disk.foreign = 0
            raise Killed from None
        length = self.rng.randint(5, 25)
        async with trio.open_nursery() as nursery:
            for _ in range(min(length, self.steps)):
                self.steps -= 1
                name, actor = choose(self)
                nursery.start_soon(self._guard, name, actor)
                await self.pause()
            ending = self.rng.randrange(3)
            if ending == 0:  # in the middle of it all
                with contextlib.suppress(Killed):
                    self.machine.die("nothing in particular")
                raise Killed
            if ending == 1:
                nursery.cancel_scope.cancel()
        await self._close()
        return True

    async def _guard(self, name: str, actor: Callable[[World], Awaitable[None]]) -> None:
        self.count(f"action {name}")
        try:
            await actor(self)
        except IbsError as error:
            self.refused(name, error)
        except (OSError, sqlite3.Error) as error:
            raise Violation("errors are our own", f"{name}: {type(error).__name__}: {error}") from error
        if self.machine.dead:
            raise Killed

    def refused(self, what: str, error: IbsError) -> None:
        """An error is right only where the world gave reason for it."""
        self.alive()
        kind = type(error).__name__
        self.count(f"refused {what} {kind}")
        self.tell(f"{what}: {kind}: {error.message[:120]}")
        reasons = {
            "NoSpace": {"space"},
            "DatastoreReadOnly": {"flush"},
            "FailedError": {"read", "space", "flush"},
            "DatastoreOffline": {"owner", "closing"},
            "BusyError": {"*"},
            "SessionLost": {"*"},
            "NotFoundError": {"forget"},
            "ChunkNotFound": {"spoiled", "flush"},
            "CorruptChunk": {"spoiled", "flush"},
            "RefusedError": {"spoiled"},
            "ConflictError": {"closing", "undone"},
            "FormatError": {"forget"},
            "Quarantined": {"quarantine"},
        }.get(kind, set())
        if "*" not in reasons and not reasons & self.excuses:
            raise Violation("nothing fails without a reason", f"{what}: {kind}: {error.message}") from error

    def alive(self) -> None:
        """A client of a dead process hears nothing more."""
        if self.machine.dead:
            raise Killed

    async def pause(self) -> None:
        """Some turns of the loop, or some time."""
        kind = self.rng.randrange(8)
        if kind == 0:
            await trio.sleep(self.rng.choice((0.001, 0.5, 1, 7)))
        else:
            for _ in range(self.rng.randint(0, 12)):
                await trio.lowlevel.checkpoint()
        self.alive()

    # --- the server ---

    async def open(self) -> None:
        """A new process opens the store."""
        from ibs_tests.sim.upkeep import watch_publishing  # noqa: PLC0415 - it knows the world

        options = StoreOptions(
            hook=self.machine.hook,
            boot_id=f"boot-{self.machine.boots}",
            flush_whole=self.machine.whole_flush,
            flush=self.machine.os.syncfs,
            takeover=self._takeover,
        )
        self.mode_lock = trio.Lock()
        held = await self.machine.threads.disk(holding.peek, MOUNT, UUID, "s1", "")
        if self.noted and held.quarantine is None:
            raise Violation("a quarantine outlives its process", "it was noted, and is gone")
        store = await self.machine.threads.disk(self._open_store, options)
        self._takeover = False
        watch_publishing(self, store)
        context = StoreContext(
            name="s1",
            uuid=UUID,
            generation=store.epoch,
            store=store,
            folders=SnapshotFolders(store.snapshots),
            pool=self.machine.threads,
            clock=self.machine.clock,
            entropy=self._entropy.randbytes,
            keys=Register(),
            publish=self.events.append,
            signing_seed=SEED,
            modes=Modes("s1", held),
        )
        if held.quarantine is not None:
            self.excuses.add("quarantine")
        self.datastore = Datastore(context)
        await self.datastore.recover()
        self.tell(f"opened: {store.recovered}")
        self.model.check(when="after opening")

    @staticmethod
    def _open_store(options: StoreOptions) -> LocalStore:
        return LocalStore.open(MOUNT, UUID, SERVER, name="s1", options=options)

    async def _close(self) -> None:
        self.excuses.add("closing")
        try:
            await self.datastore.close("the server stops")
        except IbsError as error:
            self.refused("close", error)
        self.count("era.stopped")
        self.tell("STOPPED in order")

    async def _rest(self) -> None:
        """Everything comes to rest: a last process cleans up, and nothing is left that nobody needs."""
        self.machine.disk.foreign = 0
        from ibs_tests.sim.collect import run as collect  # noqa: PLC0415 - it knows the world
        from ibs_tests.sim.upkeep import release  # noqa: PLC0415 - it knows the world

        await self.open()
        await release(self)
        try:
            await self.datastore.cleanup()
        except IbsError as error:
            self.refused("cleanup", error)
        empty_bin = self.rng.random() < 0.5
        options = Options(reclaim_now=True, empty_bin=empty_bin, share_percent=100, accept_missing=True)
        if not await collect(self, options):
            raise Violation("nothing fails without a reason", "the last collection was held back")
        self.model.check(when="at rest")
        self._check_nothing_left()
        await self._close()
        self._end(power_cut=False)

    def _check_nothing_left(self) -> None:
        disk = self.machine.disk
        for area in ("staging", ".ibs/leases"):
            left = disk.look(area)
            assert isinstance(left, Folder)
            if left.entries:
                raise Violation("nothing is left behind", f"{area}/{next(iter(left.entries))}")
        incoming = [path for path, _ in disk.walk("chunks/incoming")]
        if incoming:
            raise Violation("nothing is left behind", incoming[0])
        wanted = {name for each in self.model.snapshots.values() if each.kept for name in each.letters}
        for path, file in disk.walk("chunks"):
            name = path.rpartition("/")[2].removesuffix(".bad")
            if name in self.model.ever_spoiled and not self.model.is_good(file, name):
                continue  # where no whole chunk tells its domain, nobody knows any more what it was
            if name not in wanted and name != "about.json":
                raise Violation("nothing is left behind", path)

    @contextlib.contextmanager
    def excused(self, reason: str) -> Iterator[None]:
        """Inside, this is a reason for errors."""
        self.excuses.add(reason)
        yield


def _find(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """The first of these kinds in an error or in its groups and causes."""
    if isinstance(error, kinds):
        return error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            found = _find(each, kinds)
            if found is not None:
                return found
    return None


def run(seed: int, *, steps: int = STEPS, mutant: Mutant | None = None) -> Outcome:
    """Run one seed; with `mutant` on a product broken on purpose."""
    world = World(seed, steps=steps)
    if mutant is None:
        return world.run()
    if mutant.among:
        world.weights = {"backup": 10, "forget": 2, **dict.fromkeys(mutant.among, 6)}
    with mutant.breaking():
        return world.run()
