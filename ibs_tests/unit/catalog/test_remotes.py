"""Remotes come back as they were; names are taken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.remotes import RemoteRow
from ibs.core import limits_sync
from ibs.errors import ConflictError, NotFoundError

ROW = RemoteRow(name="b", host="b.example", port=8007, auth_id="s@ibs!t", sealed=b"\0sealed", fingerprint="aa")


async def test_rows(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table = catalog.remotes
    await table.add(ROW)
    await table.add(replace(ROW, name="a"))
    assert [row.name for row in await table.list()] == ["a", "b"]
    assert await table.get("b") == ROW
    assert "sealed" not in repr(ROW)
    with pytest.raises(ConflictError, match="exists already"):
        await table.add(ROW)
    await table.update(replace(ROW, fingerprint="bb", signer="cc"))
    await table.contact("b", 7, "")
    await table.contact("b", None, "silent")
    assert await table.get("b") == replace(ROW, fingerprint="bb", signer="cc", contact_ns=7, trouble="silent")
    assert (await table.get("a")).trouble == ""
    await table.contact("nobody", 1, "")
    monkeypatch.setattr(limits_sync, "REMOTES_MAX", 2)
    with pytest.raises(ConflictError, match="2 remotes already"):
        await table.add(replace(ROW, name="c"))
    await table.remove("b")
    for call in (table.get("b"), table.remove("b"), table.update(ROW)):
        with pytest.raises(NotFoundError, match="no remote b"):
            await call
