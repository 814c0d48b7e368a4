"""A fresh datastore for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.engine.datastore import Datastore
from ibs.storage.local import LocalStore
from ibs_tests.support.engine import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(str(tmp_path / "store")).create()
    yield box
    box.close()


@pytest.fixture
def store(box: Box) -> LocalStore:
    return box.open_store()


@pytest.fixture
async def datastore(box: Box) -> Datastore:
    return await box.open()
