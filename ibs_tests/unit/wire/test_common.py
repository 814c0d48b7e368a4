"""What all bodies share: frozen, snake_case, the same after a trip over the wire, tolerant of newer peers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ibs.errors import NoSpace
from ibs.wire import datastore, frames, reader, session, system
from ibs.wire.common import Count, ErrorBody, Ping, Seconds, TaskStarted, Wire, body_of
from ibs_tests.support.control import sample


def kinds(base: type[Wire] = Wire) -> Iterator[type[Wire]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


ALL = sorted(set(kinds()), key=lambda kind: kind.__name__)
assert {datastore.DatastoreView, reader.ReaderOpen, session.SessionOpen, system.TaskView, frames.Hello} <= set(ALL)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_body_travels(kind: type[Wire]) -> None:
    body: Any = sample(kind)
    raw = msgspec.json.encode(body)
    assert msgspec.json.decode(raw, type=kind) == body
    fields = msgspec.json.decode(raw)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in fields)
    assert set(fields) == {one.name for one in msgspec.structs.fields(kind)}, "optional fields are sent, too"
    newer = msgspec.json.encode(fields | {"a_field_of_a_later_version": [1, {}]})
    assert msgspec.json.decode(newer, type=kind) == body
    older = {one.name: fields[one.name] for one in msgspec.structs.fields(kind) if one.required}
    assert msgspec.json.decode(msgspec.json.encode(older), type=kind) == body
    with pytest.raises(AttributeError):
        setattr(body, next(iter(fields)), None)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_body_is_explained_or_explains_itself(kind: type[Wire]) -> None:
    assert kind.__doc__ is None or kind.__doc__.strip()
    assert msgspec.json.schema(kind)


def test_error_bodies() -> None:
    error = NoSpace("main", "bytes")
    body = body_of(error)
    assert msgspec.json.decode(msgspec.json.encode(body)) == {
        "code": "no-space",
        "message": error.message,
        "hint": error.hint,
        "retry": str(error.retry),
        "details": {"where": "main", "exhausted": "bytes"},
    }
    assert ErrorBody(code="x", message="y").details is not ErrorBody(code="x", message="y").details


def test_small_ones() -> None:
    assert TaskStarted(upid="U").upid == "U"
    assert Ping(product="p", version="v", api="a").api == "a"


@pytest.mark.parametrize("raw", [b"-1", b"9223372036854775808", b"1.5", b'"1"', b"null", b"true"])
def test_counts_are_counts(raw: bytes) -> None:
    assert msgspec.json.decode(b"0", type=Count) == 0
    assert msgspec.json.decode(b"9223372036854775807", type=Count) == (1 << 63) - 1
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=Count)


@pytest.mark.parametrize("raw", [b"-0.1", b"1e16", b"1e400", b'"1"'])
def test_seconds_are_seconds(raw: bytes) -> None:
    assert msgspec.json.decode(b"1", type=Seconds) == 1.0
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=Seconds)
