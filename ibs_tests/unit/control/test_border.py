"""The outermost layer: a body waits until it is wanted; a defect is answered once, logged once, and hides no cancel."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
import trio.testing

from ibs.control.border import Border, internal_error, open_body
from ibs_tests.support.control import logged

SCOPE = {"type": "http", "method": "GET", "path": "/x"}


class Wire:
    """The two ends that an ASGI app talks to."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.received = 0

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.received += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)


START = {"type": "http.response.start", "status": 200, "headers": []}


async def test_a_body_waits_until_it_is_wanted(nursery: trio.Nursery) -> None:
    wire, scope = Wire(), dict(SCOPE)
    got: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        got.append(await receive())

    nursery.start_soon(Border(app), scope, wire.receive, wire.send)
    await trio.testing.wait_all_tasks_blocked()
    assert (got, wire.received) == ([], 0)
    open_body(scope)
    await trio.testing.wait_all_tasks_blocked()
    assert (len(got), wire.received) == (1, 1)


async def test_an_answer_opens_the_body_too(nursery: trio.Nursery) -> None:
    """So that the rest is thrown away and a disconnect noticed."""
    wire = Wire()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await receive()

    with trio.fail_after(5):
        await Border(app)(dict(SCOPE), wire.receive, wire.send)
    assert wire.received == 1


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("hush"), ExceptionGroup("", [ExceptionGroup("", [ZeroDivisionError("hush")])])]
)
async def test_a_defect_is_answered_and_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    async def app(*_rest: Any) -> None:
        raise error

    with caplog.at_level(logging.INFO, "ibs.api"):
        await Border(app)(dict(SCOPE), wire.receive, wire.send)
    start, body = wire.sent
    assert (start["status"], json.loads(body["body"])["code"]) == (500, "error")
    assert "hush" not in str(body)
    assert "hush" in logged(caplog.records)


async def test_an_answer_that_has_begun_is_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        raise ZeroDivisionError

    with caplog.at_level(logging.INFO, "ibs.api"):
        await Border(app)(dict(SCOPE), wire.receive, wire.send)
    assert wire.sent == [START]
    assert "ZeroDivisionError" in logged(caplog.records)


async def test_cancellation_passes(caplog: pytest.LogCaptureFixture) -> None:
    async def app(*_rest: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    with trio.move_on_after(0.01) as scope:
        await Border(app)(dict(SCOPE), Wire().receive, Wire().send)
    assert scope.cancelled_caught
    assert caplog.text == ""


async def test_a_defect_beside_a_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(*_rest: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def both(*rest: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(app)

    with caplog.at_level(logging.INFO, "ibs.api"), trio.move_on_after(0.01):
        await Border(both)(dict(SCOPE), Wire().receive, Wire().send)
    assert "ZeroDivisionError" in logged(caplog.records)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_nothing_but_http_reaches_the_app(kind: str) -> None:
    async def app(*_rest: Any) -> None:
        pytest.fail("reached")

    wire = Wire()
    await Border(app)({"type": kind}, wire.receive, wire.send)
    assert (wire.sent, wire.received) == ([], 0)


def test_a_scope_without_gate_is_left_alone() -> None:
    open_body({})
    assert internal_error().code == "error"
