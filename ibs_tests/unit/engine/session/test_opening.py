"""Opening: names, keys, owners, times, sequence, and what an interrupted session hands on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ibs.core import limits
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.session.journal import JOURNAL_FILE
from ibs.errors import EncryptionRequired, KeyNotRegistered, NoSpace, RefusedError, UsageError
from ibs.storage.local import WorkFolder
from ibs.wire.session import SessionOpen
from ibs_tests.support.engine import OTHER, OWNER, Box, address_of, backup, key_registry, read, start

KEYS = DataKeys.from_root(b"\7" * 32)
OTHER_KEYS = DataKeys.from_root(b"\1" * 32)
CONTENT = [b"data", b"meta"]


# --- what is refused, before anything is made ---


@pytest.mark.parametrize(
    "changes",
    [
        {"store": "s2"},
        {"group": "web01"},
        {"group": "host/../x"},
        {"group": "tape/web01"},
        {"namespace": "a//b"},
        {"namespace": "/".join("a" * 9)},
        {"archives": []},
        {"archives": ["etc.tree", "etc.tree"]},
        {"archives": ["../x.tree"]},
        {"archives": ["etc.txt"]},
        {"archives": ["etc.tree", "base-etc.tree"]},
        {"archives": [f"a{n}.tree" for n in range(limits.MANIFEST_ARCHIVES_MAX + 1)]},
        {"key_fingerprint": "aa:bb"},
    ],
)
async def test_bad_requests_change_nothing(datastore: Datastore, changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"store": "s1", "group": "host/web01", "archives": ["etc.tree"]}
    with pytest.raises(UsageError):
        await datastore.sessions.open(OWNER, SessionOpen(**(values | changes)))
    assert datastore.store.staging.names() == []


async def test_an_unregistered_key_is_refused_before_data_moves(box: Box, datastore: Datastore) -> None:
    with pytest.raises(KeyNotRegistered, match=hex_fingerprint(KEYS.fingerprint)):
        await start(datastore, keys=KEYS)
    box.keys = key_registry(KEYS)
    datastore.store.close()
    datastore = await box.open()
    await start(datastore, keys=KEYS)
    with pytest.raises(KeyNotRegistered):
        await start(datastore, keys=OTHER_KEYS, group="host/db01")


async def test_where_encryption_is_required_nothing_plain_begins(box: Box) -> None:
    box.keys = key_registry(KEYS, required=True)
    datastore = await box.open()
    for plain in ({}, {"signing": KEYS}):
        with pytest.raises(EncryptionRequired, match="datastore s1 takes encrypted snapshots only"):
            await start(datastore, **plain)
    assert datastore.store.staging.names() == []
    await start(datastore, keys=KEYS)


async def test_the_group_of_another_takes_no_backup(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    for stranger in (OTHER, "alice@ibs!token", "alice@pam"):
        with pytest.raises(RefusedError, match="does not own"):
            await start(datastore, auth_id=stranger)
    assert datastore.store.staging.names() == []


async def test_a_user_adds_to_what_its_tokens_own_and_never_the_other_way_round(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT}, auth_id="alice@ibs!laptop")
    result = await backup(datastore, {"etc.tree": CONTENT}, auth_id="alice@ibs")
    name = SnapshotName.parse(result.snapshot)
    assert await datastore.snapshots.owner(name.namespace, name.group) == "alice@ibs!laptop"
    with pytest.raises(RefusedError):
        await start(datastore, auth_id="alice@ibs!phone")


# --- what is assigned ---


async def test_times_are_strictly_after_the_newest(box: Box, datastore: Datastore) -> None:
    names = [SnapshotName.parse((await backup(datastore, {"etc.tree": CONTENT})).snapshot) for _ in range(4)]
    times = [name.time for name in names]
    assert times == [box.clock.now() + timedelta(seconds=number) for number in range(4)]
    box.clock.advance(3600)
    result = await backup(datastore, {"etc.tree": CONTENT})
    assert SnapshotName.parse(result.snapshot).time == box.clock.now()


async def test_times_are_after_those_of_interrupted_sessions(datastore: Datastore) -> None:
    first = await start(datastore)
    await first.session.abort("next")
    second = await start(datastore, group="host/web01")
    assert second.session.facts.name.time == first.session.facts.name.time + timedelta(seconds=1)


async def test_epochs_grow_over_sessions_and_openings(box: Box, datastore: Datastore) -> None:
    epochs = []
    for _ in range(2):
        for group in ("host/a", "host/b"):
            epochs.append((await start(datastore, group=group)).session.facts.epoch)
        datastore = await box.kill(datastore)
    assert epochs == sorted(set(epochs))
    assert epochs[2] >> 32 == (epochs[0] >> 32) + 1


async def test_the_answer_tells_what_the_manifest_must_say(datastore: Datastore) -> None:
    opened = (await start(datastore)).session.opened
    assert (opened.sequence, opened.previous_manifest_digest, opened.base_run) == (1, "", 0)
    assert opened.upid == f"UPID:{OWNER}"
    assert opened.heartbeat_seconds == limits.SESSION_HEARTBEAT_SECONDS


async def test_runs_with_a_base_are_counted(datastore: Datastore) -> None:
    for expected in (0, 0, 1, 2):
        writer = await start(datastore)
        assert writer.session.opened.base_run == expected
        await writer.archive("etc.tree", CONTENT)
        await writer.commit()


# --- resumption ---


async def test_a_resumed_session_needs_not_send_again(box: Box, datastore: Datastore) -> None:
    first = await start(datastore)
    await first.send(b"a", b"b")
    datastore = await box.kill(datastore)
    assert len(datastore.sessions.interrupted_sessions) == 1
    second = await start(datastore)
    assert second.session.opened.resumed_chunks == 2
    resumed = await second.session.resumed_ids()
    assert {resumed[at : at + 32] for at in (0, 32)} == {second.id(b"a"), second.id(b"b")}
    await second.send(b"meta")
    await second.archive("etc.tree", [b"a", b"b", b"meta"], send=False)
    result = await second.commit()
    assert await read(datastore, result.snapshot, "etc.tree") == [b"a", b"b", b"meta"]
    assert datastore.store.staging.names() == []


async def test_a_chain_of_interruptions_loses_nothing(box: Box, datastore: Datastore) -> None:
    for number in range(4):
        writer = await start(datastore)
        assert writer.session.opened.resumed_chunks == number
        await writer.send(bytes([number]))
        datastore = await box.kill(datastore)
    assert len(datastore.store.staging.names()) == 1
    assert await datastore.find_unreferenced() == []


async def test_only_what_is_there_is_resumed(box: Box, datastore: Datastore) -> None:
    first = await start(datastore)
    await first.send(b"kept", b"lost", b"suspect")
    await first.session.abort("next")
    datastore.store.barrier()
    box.chunk_path(address_of(b"lost")).unlink()
    datastore = await box.kill(datastore)
    datastore.store.mark_suspect(address_of(b"suspect"))
    second = await start(datastore)
    assert await second.session.resumed_ids() == second.id(b"kept")
    for data in (b"lost", b"suspect"):
        with pytest.raises(RefusedError):
            await second.append("etc.tree", [data])
    journal = datastore.store.staging.folder(second.session.session_id).read(JOURNAL_FILE)
    assert len(journal) == 3 * 32  # a later clean-up must find all of them


@pytest.mark.parametrize(
    "other",
    [{"group": "host/db01"}, {"namespace": "a"}, {"auth_id": OTHER}, {"keys": KEYS}],
    ids=["group", "namespace", "identity", "key"],
)
async def test_only_the_same_identity_group_and_key_resumes(box: Box, other: dict[str, Any]) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    first = await start(datastore)
    await first.send(b"a")
    await first.session.abort("next")
    second = await start(datastore, **other)
    assert second.session.opened.resumed_chunks == 0
    assert len(datastore.sessions.interrupted_sessions) == 1
    if "keys" not in other:
        with pytest.raises(RefusedError):
            await second.append("etc.tree", [b"a"])


async def test_a_failed_opening_keeps_what_could_be_resumed(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await start(datastore)
    await first.send(b"a")
    await first.session.abort("next")

    def full(*_: object, **__: object) -> int:
        raise NoSpace("s1", "bytes")

    with monkeypatch.context() as patched:
        patched.setattr(WorkFolder, "append", full)
        with pytest.raises(NoSpace):
            await start(datastore)
    assert datastore.store.staging.names() == [first.session.session_id]
    second = await start(datastore)
    assert second.session.opened.resumed_chunks == 1


async def test_an_heir_that_cannot_be_removed_is_kept_for_later(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await start(datastore)
    await first.send(b"a")
    await first.session.abort("next")

    def fail(*_: object) -> None:
        raise NoSpace("s1", "bytes")

    with monkeypatch.context() as patched:
        patched.setattr("ibs.engine.session.opening.remove_staging", fail)
        second = await start(datastore)
    assert second.session.opened.resumed_chunks == 1
    assert list(datastore.sessions.interrupted_sessions) == [first.session.session_id]
    await datastore.cleanup()
    assert datastore.store.staging.names() == [second.session.session_id]
    await second.append("etc.tree", [b"a"])
    assert await datastore.find_unreferenced() == []
