"""A box with a fresh local store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.stores import StoreBox


@pytest.fixture
def box(tmp_path: Path) -> Iterator[StoreBox]:
    box = StoreBox(tmp_path / "store").create()
    yield box
    box.close()
