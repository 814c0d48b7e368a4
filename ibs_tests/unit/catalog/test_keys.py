"""Rows of the register come back as they were, whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.keys import KeyRow, PolicyRow
from ibs.core import limits_keys
from ibs.errors import ConflictError

ROW = KeyRow(
    fingerprint="aa", datastore="", namespace="", signer="bb", comment="c", state="active", added_ns=1,
    added_by="a@ibs", public="{}",
)  # fmt: skip


async def test_a_row_a_scope(catalog: Catalog) -> None:
    there = replace(ROW, datastore="main", namespace="web", added_ns=2)
    other = replace(ROW, fingerprint="cc", added_ns=3, state="retired", retired_ns=4, retired_by="b@ibs")
    await catalog.keys.put([there, ROW, other])
    assert list(await catalog.keys.list()) == [ROW, there, other]
    assert list(await catalog.keys.list("cc")) == [other]
    await catalog.keys.put([replace(other, state="active")])
    assert [row.state for row in await catalog.keys.list("cc")] == ["active"]
    await catalog.keys.remove("aa")
    assert [row.fingerprint for row in await catalog.keys.list()] == ["cc"]


async def test_too_many_change_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_keys, "REGISTERED_KEYS_MAX", 1)
    with pytest.raises(ConflictError, match="registered keys already"):
        await catalog.keys.put([ROW, replace(ROW, datastore="main")])
    assert not await catalog.keys.list()


async def test_policies(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    row = PolicyRow(datastore="main", namespace="", required=True, set_ns=1, set_by="a@ibs")
    await catalog.keys.put_policy(row)
    await catalog.keys.put_policy(replace(row, required=False))
    assert list(await catalog.keys.policies()) == [replace(row, required=False)]
    monkeypatch.setattr(limits_keys, "KEY_POLICIES_MAX", 1)
    with pytest.raises(ConflictError, match="policies already"):
        await catalog.keys.put_policy(replace(row, namespace="web"))
    assert await catalog.keys.remove_policy("main", "")
    assert not await catalog.keys.remove_policy("main", "")
