"""The small values of the catalog port."""

from __future__ import annotations

import pytest

from ibs.ports.catalog import DatastoreRecord, NoKeys


def test_records_are_values() -> None:
    record = DatastoreRecord("s1", "/srv/s1", "u")
    assert record == DatastoreRecord("s1", "/srv/s1", "u", "")
    with pytest.raises(AttributeError):
        record.name = "s2"  # type: ignore[misc]


async def test_without_a_registry_no_key_is_known() -> None:
    assert await NoKeys().find("s1", "", "aa:bb") is None
    assert not await NoKeys().encryption_required("s1", "")
