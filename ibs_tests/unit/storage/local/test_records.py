"""Small records in the store: known names only, whole or not at all, and by the owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import limits
from ibs.errors import DatastoreOffline, FormatError, UsageError
from ibs.storage.local.records import CLOCK, RETENTION
from ibs_tests.support.stores import StoreBox


def test_a_record_outlives_the_store_that_wrote_it(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "s").create()
    store = box.open()
    assert store.records.read(CLOCK) == b""
    store.records.write(CLOCK, b"one\n")
    store.records.write(CLOCK, b"two\n")
    store = box.reopen(store)
    assert (store.records.read(CLOCK), store.records.read(RETENTION)) == (b"two\n", b"")
    assert list((tmp_path / "s" / ".ibs").glob(".tmp-*")) == []
    box.close()


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "s").create()
    store = box.open()
    for name in ("owner", "../x", "datastore.json"):
        with pytest.raises(UsageError):
            store.records.write(name, b"{}")
        with pytest.raises(UsageError):
            store.records.read(name)
    with pytest.raises(UsageError):
        store.records.write(CLOCK, bytes(limits.STORE_STATE_BYTES_MAX + 1))
    (tmp_path / "s" / ".ibs" / CLOCK).write_bytes(bytes(limits.STORE_STATE_BYTES_MAX + 1))
    with pytest.raises(FormatError):
        store.records.read(CLOCK)
    box.close()


def test_another_owner_writes_none(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "s").create()
    store = box.open()
    (tmp_path / "s" / ".ibs" / "owner").write_bytes(b'{"server":"other","fence":9}\n')
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        store.records.write(CLOCK, b"{}")
    box.close()
