"""Named values."""

from __future__ import annotations

from ibs.catalog.catalog import Catalog


async def test_get_set_ensure(catalog: Catalog) -> None:
    assert await catalog.settings.get("colour") is None
    assert await catalog.settings.ensure("colour", "red") == "red"
    assert await catalog.settings.ensure("colour", "blue") == "red"
    await catalog.settings.set("colour", "green")
    assert await catalog.settings.get("colour") == "green"
