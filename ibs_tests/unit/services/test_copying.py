"""What a pull makes of a listing, and what it refuses before anything is asked of the remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.errors import (
    BusyError,
    ChunkNotFound,
    FormatError,
    NoSpace,
    NotAuthorised,
    NotFoundError,
    RefusedError,
    ServerUnreachable,
    UsageError,
)
from ibs.security.secrets import load_secrets
from ibs.services.copying import Copying, _namespaces, _seen, filter_of, of_one_snapshot, one_of, signers_of
from ibs.services.remotes import Remotes
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import NamespaceView
from ibs.wire.sync import PullStart
from ibs_tests.unit.services.conftest import House


def row(**more: object) -> SnapshotView:
    facts = {
        "snapshot": "host/a/2026-01-01T00:00:00Z",
        "namespace": "",
        "group": "host/a",
        "time": "2026-01-01T00:00:00Z",
        "owner": "a@ibs",
        "plain_bytes": 1,
        "archives": [],
        "manifest_digest": "ab" * 32,
    }
    return SnapshotView(**(facts | more))  # type: ignore[arg-type]


def test_rows_as_the_rules_see_them() -> None:
    (one,) = _seen([row(source="cd" * 32, brought=True, protected=True)])
    assert (one.digest, one.origin, one.brought, one.protected, one.good) == ("ab" * 32, "cd" * 32, True, True, True)
    assert [seen.good for seen in _seen([row(verify=result) for result in ("OK", "CORRUPT", "MISSING")])] == [
        True,
        False,
        False,
    ]
    with pytest.raises(FormatError, match="no time"):
        _seen([row(snapshot="host/a")])


@pytest.mark.parametrize(
    ("error", "one"),
    [
        (BusyError("being backed up", hint="wait"), True),
        (ChunkNotFound("ab"), True),
        (RefusedError("not the owner", hint="choose"), True),
        (NoSpace("datastore main", "bytes"), False),
        (NotAuthorised("a@ibs", "Datastore.Reader", "/datastore/x"), False),
        (ServerUnreachable("gone", hint="start it"), False),
        (ZeroDivisionError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_trouble_of_one_snapshot_does_not_stop_the_others(error: BaseException, one: bool) -> None:
    assert of_one_snapshot(error) is one


async def test_mistakes_start_no_task(house: House, tmp_path: Path) -> None:
    await house.make_store()
    remotes = Remotes(house.catalog.remotes, load_secrets(tmp_path), clock=house.clock, publish=house.publish)
    desk = Copying(
        house.datastores,
        remotes,
        house.tasks,
        pool=house.pool,
        clock=house.clock,
        spawn=lambda _work: pytest.fail("nothing may begin"),
        note_commit=lambda _uuid, _name: None,
    )
    for store, request, kind in (
        ("s1", PullStart(remote="b", source="main"), NotFoundError),
        ("nowhere", PullStart(remote="b", source="main"), NotFoundError),
        ("s1", PullStart(remote="b", source="main", groups=["host"]), UsageError),
        ("s1", PullStart(remote="b", source="main", types=["disk"]), UsageError),
        ("s1", PullStart(remote="b", source="main", newest=0), UsageError),
        ("s1", PullStart(remote="b", source="main", namespace="../x"), UsageError),
    ):
        with pytest.raises(kind):
            await desk.pull("a@ibs", store, request)


def test_one_snapshot_or_the_newest_of_its_group() -> None:
    def at(group: str, time: str) -> SnapshotView:
        return row(snapshot=f"{group}/{time}", group=group, time=time)

    old, new = at("host/a", "2026-01-01T00:00:00Z"), at("host/a", "2026-02-01T00:00:00Z")
    there = [new, old, at("host/ab", "2026-03-01T00:00:00Z")]

    def asked(snapshot: str) -> PullStart:
        return PullStart(remote="r", source="s", snapshot=snapshot)

    assert one_of(there, asked("host/a")) == new
    assert one_of(there, asked(old.snapshot)) == old
    for unknown in ("host/b", "host/a/2026-01-02T00:00:00Z"):
        with pytest.raises(NotFoundError, match=f"r:s has no snapshot {unknown}"):
            one_of(there, asked(unknown))


def test_what_one_snapshot_cannot_mean_is_refused() -> None:
    with pytest.raises(UsageError, match="vanished"):
        filter_of(PullStart(remote="r", source="s", snapshot="host/a", remove_vanished=True))
    with pytest.raises(UsageError):
        filter_of(PullStart(remote="r", source="s", snapshot="nonsense"))
    with pytest.raises(UsageError, match="signing key"):
        signers_of(PullStart(remote="r", source="s", trust_signers=["AB" * 32]))
    assert signers_of(PullStart(remote="r", source="s", trust_signers=["ab" * 32])) == {bytes.fromhex("ab" * 32)}


@pytest.mark.parametrize(
    ("top", "depth", "found"),
    [
        ("", 0, [""]),
        ("a", 0, ["a"]),
        ("", 1, ["", "a", "x"]),
        ("a", 1, ["a", "a/b", "a/c"]),
        ("a", 2, ["a", "a/b", "a/b/d", "a/c"]),
        ("nowhere", 3, ["nowhere"]),
    ],
)
async def test_namespaces_that_are_looked_at(top: str, depth: int, found: list[str]) -> None:
    class There:
        async def get(self, path: str, _kind: object) -> list[NamespaceView]:
            assert path == "/datastores/s/namespaces"
            names = ("x", "a/c", "a", "ab", "a/b/d", "", "a/b")
            return [NamespaceView(namespace=name, groups=1, snapshots=1) for name in names if name != "ab" or top]

    request = PullStart(remote="r", source="s", namespace=top, depth=depth)
    assert await _namespaces(There(), request) == found  # type: ignore[arg-type]


def test_one_snapshot_is_in_one_namespace() -> None:
    with pytest.raises(UsageError, match="one namespace"):
        filter_of(PullStart(remote="r", source="s", snapshot="host/a", depth=1))


def test_what_vanished_is_judged_in_one_namespace_only() -> None:
    with pytest.raises(UsageError, match="one namespace only"):
        filter_of(PullStart(remote="r", source="s", depth=1, remove_vanished=True))
