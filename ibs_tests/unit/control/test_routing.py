"""Declared routes: queries and bodies are decoded by the declaration, and refused with the place of the mistake."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.routing import (
    OCTETS,
    OPEN,
    Call,
    Query,
    Route,
    Routes,
    authenticated,
    needs,
    read_body,
    read_ids,
    read_query,
)
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.errors import UsageError
from ibs.wire.session import ArchiveClose

QUERIES = [Query("name"), Query("limit", "integer", 50, maximum=100), Query("follow", "boolean", default=False)]


def declare(**options: Any) -> Route:
    routes = Routes("things")

    @routes.route("POST", "/things/{thing}", access=options.pop("access", OPEN), **options)
    async def thing_do(_call: Call) -> None:
        """Do it.

        More words.
        """

    return next(iter(routes))


def test_a_declaration_names_itself_after_its_handler() -> None:
    route = declare(query=QUERIES)
    assert (route.operation, route.summary, route.tag) == ("thing_do", "Do it.", "things")
    assert route.body_bytes_max == 0
    assert declare(body=ArchiveClose).body_bytes_max == limits.JSON_BODY_BYTES_MAX
    assert declare(body=OCTETS, body_bytes_max=7).body_bytes_max == 7


def test_access_rules() -> None:
    assert OPEN.open
    assert needs(Privilege.SYSTEM_AUDIT, "/system").privilege is Privilege.SYSTEM_AUDIT
    rule = authenticated("its own")
    assert (rule.open, rule.privilege, rule.why) == (False, None, "its own")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], {"name": "", "limit": 50, "follow": False}),
        ([("name", "a b"), ("limit", "7"), ("follow", "1")], {"name": "a b", "limit": 7, "follow": True}),
        ([("limit", "0"), ("follow", "true")], {"name": "", "limit": 0, "follow": True}),
        ([("limit", "100"), ("follow", "false")], {"name": "", "limit": 100, "follow": False}),
        ([("name", "x" * 4096), ("follow", "0")], {"name": "x" * 4096, "limit": 50, "follow": False}),
    ],
)
def test_queries(given: list[tuple[str, str]], wanted: dict[str, Any]) -> None:
    assert read_query(declare(query=QUERIES), given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        [("unknown", "1")],
        [("name", "a"), ("name", "a")],
        [("limit", "101")],
        [("limit", "-1")],
        [("limit", "")],
        [("limit", "1.0")],
        [("limit", "٣")],  # a digit to Python, no digit to the format
        [("limit", "9" * 13)],
        [("limit", " 1")],
        [("follow", "yes")],
        [("follow", "")],
        [("name", "a\0b")],
        [("name", "x" * 4097)],
    ],
)
def test_queries_that_are_refused(given: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError) as refused:
        read_query(declare(query=QUERIES), given)
    assert refused.value.hint


def test_bodies() -> None:
    assert read_body(declare(), b"ignored") is None
    assert read_body(declare(body=OCTETS), b"\0\1") == b"\0\1"
    assert read_body(declare(body=ArchiveClose), b'{"plain_bytes": 1, "records": 2, "new": 3}') == ArchiveClose(
        plain_bytes=1, records=2
    )


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b"", "plain_bytes"),
        (b"{", "truncated"),
        (b"[]", "array"),
        (b'{"plain_bytes": "1", "records": 2}', "$.plain_bytes"),
        (b'{"plain_bytes": 1.5, "records": 2}', "$.plain_bytes"),
        (b'{"plain_bytes": 1, "records": null}', "$.records"),
        (b'{"plain_bytes": 1, "records": 99999999999999999999999}', "$.records"),
        (b'{"plain_bytes": 1, "records": 2, "root": "\xff"}', ""),
        (b'{"plain_bytes": 1, "records": 2, "root": "\\ud800"}', ""),
        (b'{"x": ' + b"[" * 100_000, ""),
    ],
)
def test_bodies_that_are_refused_name_the_place(raw: bytes, place: str) -> None:
    with pytest.raises(UsageError, match="the request body is not valid") as refused:
        read_body(declare(body=ArchiveClose), raw)
    assert place in refused.value.message


def test_ids() -> None:
    assert read_ids(b"a" * 32 + b"b" * 32) == [b"a" * 32, b"b" * 32]
    assert len(read_ids(bytearray(32 * limits.FETCH_IDS_MAX))) == limits.FETCH_IDS_MAX
    for size in (0, 1, 31, 33, 32 * (limits.FETCH_IDS_MAX + 1)):
        with pytest.raises(UsageError):
            read_ids(bytes(size))
