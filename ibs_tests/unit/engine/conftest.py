"""A fresh datastore for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.engine.datastore import Datastore
from ibs_tests.support.engine import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(str(tmp_path / "store")).create()


@pytest.fixture
async def datastore(box: Box) -> Datastore:
    return await box.open()
