"""Pruning: planned like it is done, stopped when it looks like an accident, and undoable."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ibs.core import limits
from ibs.core.manifest import SnapshotState, VerifyState
from ibs.core.modes import ModeRecord, Quarantine
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.core.retention import Policy
from ibs.engine.datastore import Datastore
from ibs.engine.prune import Pruned, PrunePlan, Scope, execute, plan, unique_bytes
from ibs.errors import Quarantined
from ibs_tests.support.engine import OTHER, OWNER, Box, address_of, backup, snapshot_of

ROOT = Namespace()
LAST_TWO = Policy(keep_last=2)


async def snapshots(box: Box, datastore: Datastore, count: int, **options: object) -> list[SnapshotName]:
    """So many, an hour apart; each has a chunk of its own beside one of all."""
    made = []
    for number in range(count):
        box.clock.advance(3600)
        content = {"etc.tree": [b"own %d" % number, b"shared"]}
        made.append(snapshot_of(await backup(datastore, content, **options)))
    return made


async def planned(datastore: Datastore, scope: Scope | None = None, **options: bool) -> PrunePlan:
    return await plan(datastore.context, datastore.retention, scope or Scope(), **options)


async def run(datastore: Datastore, what: PrunePlan, lines: list[str] | None = None, **options: bool) -> Pruned:
    told = lines if lines is not None else []
    return await execute(
        datastore.context,
        datastore.bin,
        what,
        "root@ibs",
        lambda level, text: told.append(f"{level} {text}"),
        retention=datastore.retention,
        **options,
    )


def rules(what: PrunePlan) -> Sequence[str]:
    (group,) = what.groups
    return [one.rule or "remove" for one in group.decisions]


async def test_without_retention_nothing_is_removed(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 3)
    found = await planned(datastore)
    assert (list(found.groups), found.without_policy) == ([], 1)
    assert (await run(datastore, found)).removed == []
    assert await datastore.snapshots.every() == made


async def test_a_run_does_what_the_plan_says_and_can_be_undone(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 4)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs")
    found = await planned(datastore)
    assert rules(found) == ["keep-last", "keep-last", "remove", "remove"]
    assert await datastore.snapshots.every() == made
    lines: list[str] = []
    done = await run(datastore, found, lines)
    assert (done.kept, list(done.removed)) == (2, made[:2])
    assert lines == [f"info {name}: to the bin" for name in made[:2]]
    assert await datastore.snapshots.every() == made[2:]
    entry = await datastore.bin.find(str(made[0]))
    assert (entry.by, entry.why) == ("root@ibs", "pruned: keep-last 2 (UTC)")
    await datastore.bin.undo(str(made[0]))
    assert await datastore.snapshots.every() == [made[0], *made[2:]]


async def test_more_than_half_of_a_group_is_not_removed_unasked(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 5)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs")
    found = await planned(datastore)
    assert "3 of 5" in found.groups[0].brake
    lines: list[str] = []
    done = await run(datastore, found, lines)
    assert (done.kept, list(done.removed), len(done.stopped)) == (5, [], 1)
    assert "more than half" in lines[0]
    assert box.kinds()[-1] == "prune.stopped"
    assert await datastore.snapshots.every() == made
    assert len((await run(datastore, found, override=True)).removed) == 3


async def test_a_policy_may_say_that_more_than_half_is_usual(box: Box, datastore: Datastore) -> None:
    await snapshots(box, datastore, 5)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs", more_than_half=True)
    assert (await planned(datastore)).groups[0].brake == ""


async def test_a_group_that_shrank_to_nothing_keeps_its_last_of_usual_size(box: Box, datastore: Datastore) -> None:
    box.clock.advance(3600)
    await backup(datastore, {"etc.tree": [b"x" * 1000, b"shared"]})
    await snapshots(box, datastore, 2)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs", more_than_half=True)
    found = await planned(datastore)
    assert "under a tenth" in found.groups[0].brake
    assert (await run(datastore, found)).removed == []


async def test_the_most_specific_policy_counts_and_one_of_the_command_before_all(
    box: Box, datastore: Datastore
) -> None:
    await snapshots(box, datastore, 2)
    await snapshots(box, datastore, 2, namespace="a", group="host/db")
    await datastore.retention.set(ROOT, Policy(keep_last=1), "root@ibs")
    await datastore.retention.set(Namespace.parse("a"), Policy(), "root@ibs")
    found = await planned(datastore)
    assert {one.name: (one.level, len(one.removals)) for one in found.groups} == {
        "host/web01": ("datastore", 1),
        "ns:a/host/db": ("namespace a", 0),
    }
    below = await planned(datastore, Scope(namespace=Namespace.parse("a"), policy=Policy(keep_last=1)))
    assert [(one.name, one.level, len(one.removals)) for one in below.groups] == [("ns:a/host/db", "command", 1)]
    none = await planned(datastore, Scope(group=Group.parse("host/db")))
    assert list(none.groups) == []


async def test_others_groups_are_left_alone(box: Box, datastore: Datastore) -> None:
    await snapshots(box, datastore, 2)
    await snapshots(box, datastore, 2, group="host/db", auth_id=OTHER)
    scope = Scope(policy=Policy(keep_last=1), may=lambda _, owner: owner == OWNER)
    assert [one.name for one in (await planned(datastore, scope)).groups] == ["host/web01"]


async def test_protected_and_last_good_ones_stay(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 5)
    folders = datastore.context.folders
    bad = VerifyState(result="CORRUPT", time="2026-01-01T00:00:00Z")
    folders.change_state(made[0], lambda _: SnapshotState(protected=True, verify=bad))
    folders.change_state(made[4], lambda _: SnapshotState(verify=bad))
    datastore.store.snapshots.write_state(str(made[1]), b"nonsense")  # whether it is protected cannot be told
    await datastore.retention.set(ROOT, Policy(keep_last=1), "root@ibs")
    assert rules(await planned(datastore)) == ["keep-last", "last good", "remove", "protected", "protected"]
    folders.change_state(made[1], lambda _: SnapshotState(verify=bad))
    assert rules(await planned(datastore)) == ["keep-last", "last good", "remove", "remove", "protected"]


async def test_what_was_protected_or_removed_since_the_plan_is_left_out(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 6)
    await datastore.retention.set(ROOT, Policy(keep_last=3), "root@ibs")
    found = await planned(datastore)
    datastore.context.folders.change_state(made[0], lambda _: SnapshotState(protected=True))
    await datastore.bin.put(made[1], "alice@ibs")
    done = await run(datastore, found)
    assert list(done.removed) == [made[2]]
    assert (done.skipped, done.kept) == ([], 4)
    assert await datastore.snapshots.every() == [made[0], *made[3:]]


async def test_a_quarantined_datastore_is_not_pruned(box: Box, datastore: Datastore) -> None:
    await snapshots(box, datastore, 4)
    found = await planned(datastore, Scope(policy=LAST_TWO))
    datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="x", since="", by="")))
    with pytest.raises(Quarantined):
        await run(datastore, found)
    assert len(await datastore.snapshots.every()) == 4


async def test_bytes_are_those_that_nothing_else_needs(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await snapshots(box, datastore, 4)
    found = await planned(datastore, Scope(policy=LAST_TWO), count_bytes=True)
    own = [address_of(b"own %d" % number) for number in range(4)]
    size = [info.stored_bytes for info in datastore.store.info(own)]
    assert found.freed.stored_bytes == size[0] + size[1]
    assert unique_bytes(datastore.context, made).stored_bytes == sum(size) + sum(
        info.stored_bytes for info in datastore.store.info([address_of(b"shared")])
    )
    await datastore.bin.put(made[0], "root@ibs")
    assert unique_bytes(datastore.context, [made[1]]).stored_bytes == size[1]
    assert unique_bytes(datastore.context, []).stored_bytes == 0
    with open(f"{box.path}/ns/{made[3]}/etc.tree.idx", "r+b") as file:
        file.write(b"x")
    assert "cannot be told" in unique_bytes(datastore.context, [made[1]]).note
    monkeypatch.setattr(limits, "PRUNE_UNIQUE_CHUNKS_MAX", 1)
    assert unique_bytes(datastore.context, [made[1]]).stored_bytes is None
    assert (await planned(datastore, Scope(policy=LAST_TWO))).freed.note == "not counted"


async def test_each_group_is_decided_anew_right_before(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 4)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs")
    found = await planned(datastore)
    assert rules(found) == ["keep-last", "keep-last", "remove", "remove"]
    bad = VerifyState(result="CORRUPT", time="2026-01-01T00:00:00Z")
    for name in made[2:]:  # the two that were to stay turn out to be bad
        datastore.context.folders.change_state(name, lambda _: SnapshotState(verify=bad))
    done = await run(datastore, found)
    assert (list(done.removed), done.kept) == (made[:1], 3), "the last good one stays"


async def test_what_came_or_was_loosened_since_the_plan_is_not_removed(box: Box, datastore: Datastore) -> None:
    made = await snapshots(box, datastore, 4)
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs")
    found = await planned(datastore)
    made += await snapshots(box, datastore, 1)
    done = await run(datastore, found)
    assert list(done.removed) == made[:2], "the third would go by now, but nobody was shown that"
    found = await planned(datastore)
    await datastore.retention.set(ROOT, Policy(keep_last=9), "root@ibs")
    assert (await run(datastore, found)).removed == []
    await datastore.retention.clear(ROOT)
    assert (await run(datastore, found)).removed == []


async def test_a_brake_that_only_now_holds_stops_the_group(box: Box, datastore: Datastore) -> None:
    made = []
    for size in (1000, 1, 1, 1000):
        box.clock.advance(3600)
        made.append(snapshot_of(await backup(datastore, {"etc.tree": [b"x" * size, b"m"]})))
    await datastore.retention.set(ROOT, LAST_TWO, "root@ibs")
    found = await planned(datastore)
    assert found.groups[0].brake == ""
    await datastore.bin.put(made[3], "alice@ibs")  # now the two that would stay are tiny
    done = await run(datastore, found)
    assert ([one.name for one in done.stopped], done.kept) == (["host/web01"], 3)
    assert await datastore.snapshots.every() == made[:3]
