"""Bodies of the datastore routes: what may be left out, what must be there."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.datastore import DatastoreCreate, DatastoreStats, DatastoreView, VerifyReport, VerifyStart
from ibs_tests.support.control import sample


def test_create_needs_name_and_path() -> None:
    assert msgspec.json.decode(b'{"name": "a", "path": "/b"}', type=DatastoreCreate) == DatastoreCreate(
        name="a", path="/b"
    )
    for raw in (b"{}", b'{"name": "a"}', b'{"name": "a", "path": null}', b'{"name": 1, "path": "/b"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(raw, type=DatastoreCreate)


def test_an_offline_store_has_no_figures() -> None:
    view = DatastoreView(name="a", path="/a", uuid="u", status="offline", reason="not mounted")
    assert (view.bytes_total, view.bytes_free, view.snapshots, view.warnings) == (0, 0, 0, [])


def test_no_quota_is_null() -> None:
    stats = sample(DatastoreStats, quota_bytes_free=None)
    assert msgspec.json.decode(msgspec.json.encode(stats))["quota_bytes_free"] is None


def test_verification() -> None:
    assert VerifyStart().notification_mode == "on-failure"
    first, second = sample(VerifyReport), sample(VerifyReport)
    assert first.bad_chunks is not second.bad_chunks
