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
from ibs.services.copying import Copying, _seen, of_one_snapshot
from ibs.services.remotes import Remotes
from ibs.wire.datastore import SnapshotView
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
