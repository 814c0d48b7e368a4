"""Configured datastores: nothing twice, clear words when something is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.errors import ConflictError, NotFoundError
from ibs.ports.catalog import DatastoreRecord, DatastoreRecords

MAIN = DatastoreRecord("main", "/srv/main", "u-1", "first")
OTHER = DatastoreRecord("other", "/srv/other", "u-2")


async def test_add_update_remove(catalog: Catalog) -> None:
    records: DatastoreRecords = catalog.datastores
    await records.add(OTHER)
    await records.add(MAIN)
    assert list(await records.list()) == [MAIN, OTHER]
    moved = replace(MAIN, path="/mnt/main", comment="")
    await records.update(moved)
    assert list(await records.list()) == [moved, OTHER]
    await records.remove("main")
    assert list(await records.list()) == [OTHER]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (replace(OTHER, name="main"), "datastore main exists already"),
        (replace(OTHER, path="/srv/main"), "path /srv/main belongs to datastore main already"),
        (replace(OTHER, uuid="u-1"), "uuid u-1 belongs to datastore main already"),
    ],
)
async def test_nothing_twice(catalog: Catalog, record: DatastoreRecord, words: str) -> None:
    await catalog.datastores.add(MAIN)
    with pytest.raises(ConflictError, match=words):
        await catalog.datastores.add(record)
    assert list(await catalog.datastores.list()) == [MAIN]


async def test_an_update_takes_nobody_elses_path(catalog: Catalog) -> None:
    await catalog.datastores.add(MAIN)
    await catalog.datastores.add(OTHER)
    with pytest.raises(ConflictError, match="belongs to datastore main"):
        await catalog.datastores.update(replace(OTHER, path=MAIN.path))


async def test_maintenance(catalog: Catalog) -> None:
    await catalog.datastores.add(MAIN)
    assert await catalog.datastores.maintenance("main") == ""
    await catalog.datastores.set_maintenance("main", "new disks")
    await catalog.datastores.update(replace(MAIN, comment="x"))
    assert await catalog.datastores.maintenance("main") == "new disks"


async def test_what_is_not_there(catalog: Catalog) -> None:
    for call in (
        catalog.datastores.update(MAIN),
        catalog.datastores.remove("main"),
        catalog.datastores.maintenance("main"),
        catalog.datastores.set_maintenance("main", ""),
    ):
        with pytest.raises(NotFoundError, match="datastore main does not exist"):
            await call
