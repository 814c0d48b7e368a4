"""Garbage collection in the simulated world: runs of every kind, at any moment, and the way back from the trash."""

from __future__ import annotations

from ibs.engine.gc.plan import Options
from ibs.errors import BusyError, ConflictError, IbsError, NotFoundError
from ibs_tests.sim.world import World


async def collect(world: World) -> None:
    """One run; a brake may hold it."""
    rng = world.rng
    options = Options(
        dry_run=rng.random() < 0.1,
        reclaim_now=rng.random() < 0.15,
        empty_bin=rng.random() < 0.15,
        share_percent=rng.choice((30, 100, 100, 100)),
        accept_missing=rng.random() < 0.7,
        by="alice@ibs",
    )
    await run(world, options)


async def run(world: World, options: Options) -> bool:
    """True when nothing held it back."""
    hold = world.quarantined
    world.emptying_bin += options.empty_bin
    world.no_grace += options.reclaim_now
    try:
        outcome = await world.datastore.gc.run(options)
    except ConflictError:
        world.alive()
        world.count("gc braked")
        return False
    except BusyError:
        world.alive()
        world.count("gc busy")
        return False
    except IbsError as error:
        world.refused("gc", error)
        return False
    finally:
        if not world.machine.dead:
            world.emptying_bin -= options.empty_bin
            world.no_grace -= options.reclaim_now
    world.alive()
    world.check_hold(hold, "a collection")
    world.count("gc done" if not options.dry_run else "gc dry run")
    world.tell(
        f"gc: {outcome.plan.chunks} of {outcome.plan.total_chunks} unreferenced, {outcome.retired.chunks} to trash,"
        f" {outcome.retired.freed_chunks + outcome.emptied.freed_chunks} freed, {outcome.taken_back} taken back"
    )
    return True


async def take_back(world: World) -> None:
    """Undo of a collection: everything in trash is in its place again."""
    try:
        done = await world.datastore.gc.undo(everything=world.rng.random() < 0.5)
    except (NotFoundError, BusyError):
        world.alive()
        return
    world.alive()
    world.count("gc undone")
    world.tell(f"gc undo: {done.chunks} chunks")
