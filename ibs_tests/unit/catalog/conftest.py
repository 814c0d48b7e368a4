"""An open catalog in a fresh state folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ibs.catalog.catalog import Catalog, open_catalog


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    async with open_catalog(tmp_path / "state") as catalog:
        yield catalog
