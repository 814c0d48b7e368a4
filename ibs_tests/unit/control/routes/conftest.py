"""All declared routes over real TLS, with made-up answers behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from ibs.control import auditing
from ibs.control.app import create_app
from ibs.control.routes import ALL
from ibs_tests.support.control import OWNER, Certificates, FakeContext, Served, serving

Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def context() -> FakeContext:
    """Its OWNER may do everything; the session and the reader are OWNER's."""
    made = FakeContext()
    made.access.grant(OWNER, "Admin")
    return made


@pytest.fixture
async def served(context: FakeContext, certificates: Certificates) -> AsyncIterator[Served]:
    async with serving(create_app(context, ALL), certificates) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture
async def ask(served: Served) -> AsyncIterator[Ask]:
    """Send one request as OWNER; refused answers fail the test unless `status` is given."""
    async with served.http(f"{OWNER}:secret") as http:

        async def request(method: str, path: str, status: int = 0, **options: object) -> httpx.Response:
            answer = await http.request(method, path, **options)  # type: ignore[arg-type]
            assert answer.status_code == status if status else answer.is_success, answer.text
            return answer

        yield request


@pytest.fixture(autouse=True)
def only_the_handlers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the services is the handlers' doing, unless a module says `WITH_LOOKS`."""
    if getattr(request.module, "WITH_LOOKS", False):
        return

    async def nothing(_call: Any, _operation: str) -> None:
        return None

    monkeypatch.setattr(auditing, "standing", nothing)
