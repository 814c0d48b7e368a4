"""Before and after: no changing route is forgotten, only what differs is kept, refusals cause no look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from ibs.control import standing
from ibs.control.app import create_app
from ibs.control.auditing import TRAFFIC
from ibs.control.routes import ALL
from ibs.control.routing import Route
from ibs.control.standing import LOOKS, NOTHING_STOOD, difference
from ibs.errors import NotFoundError
from ibs_tests.support.control import OWNER, Certificates, FakeContext, Served, serving
from ibs_tests.unit.control.routes.test_rights import send
from ibs_tests.unit.control.test_auditing import Kept

CHANGING = {route.operation: route for route in ALL if route.method != "GET" and route.operation not in TRAFFIC}


def test_every_changing_operation_is_looked_at_or_has_a_reason() -> None:
    assert set(LOOKS) | NOTHING_STOOD == set(CHANGING)
    assert not set(LOOKS) & NOTHING_STOOD


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 2}, {"b": 3}),
        ({"a": {"x": 1, "y": [1]}}, {"a": {"x": 1, "y": [2]}}, {"a": {"y": [1]}}, {"a": {"y": [2]}}),
        ({"a": 1}, {"a": 1, "b": None}, {}, {}),
        ({"a": 1}, {"a": 1, "b": 0}, {"b": None}, {"b": 0}),
        ({"a": 1}, None, {"a": 1}, None),
        (None, {"a": 1}, None, {"a": 1}),
        ({"a": None}, {"a": {"x": 1}}, {"a": None}, {"a": {"x": 1}}),
        ({}, {}, {}, {}),
    ],
)
def test_only_what_differs(before: Any, after: Any, left: Any, right: Any) -> None:
    assert difference(before, after) == (left, right)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
async def served(kept: Kept, certificates: Certificates) -> AsyncIterator[Served]:
    context = FakeContext()
    context.access.grant(OWNER, "Admin")
    context.audit = kept  # type: ignore[assignment]
    async with serving(create_app(context, ALL), certificates) as running:  # type: ignore[arg-type]
        yield running


async def test_every_look_is_made_before_and_after(served: Served, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by those handlers that decide by themselves who may call."""
    looks = 0

    async def look(_call: Any) -> dict[str, int]:
        nonlocal looks
        looks += 1
        return {"look": looks}

    monkeypatch.setattr(standing, "LOOKS", dict.fromkeys(LOOKS, look))
    forgotten = []
    async with served.http(f"{OWNER}:secret") as http:
        for operation in LOOKS:
            looks = 0
            kept.rows.clear()
            assert (await send(http, CHANGING[operation])).is_success, operation
            (row,) = kept.rows
            if (row["before"], (row["after"] or {}).get("look")) != ({"look": 1}, 2):
                forgotten.append((operation, row["before"], row["after"]))
    assert forgotten == []


async def test_every_look_finds_what_the_services_have(served: Served, kept: Kept) -> None:
    """None of them fails in a way that is not ours; what cannot be told is nothing."""
    async with served.http(f"{OWNER}:secret") as http:
        for operation in LOOKS:
            kept.rows.clear()
            assert (await send(http, CHANGING[operation])).is_success, operation
            (row,) = kept.rows
            msgspec.json.encode([row["before"], row["after"]])


async def test_what_is_not_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(_call: Any) -> Any:
        raise NotFoundError("gone")

    monkeypatch.setattr(standing, "LOOKS", {"job_update": lost})
    assert await standing.standing(None, "job_update") is None  # type: ignore[arg-type]
    assert await standing.standing(None, "job_create") is None  # type: ignore[arg-type]


def test_an_operation_has_one_route() -> None:
    found: dict[str, Route] = {}
    for route in ALL:
        assert found.setdefault(route.operation, route) is route
