"""Work that somebody starts and does not wait for: it ends with the server, and what fails in it ends nothing else.

Used by `app`, which hands the function to services as `spawn`. And what to make of the errors of many tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from ibs.errors import IbsError
from ibs.log import get_logger

_log = get_logger("api")
Work = Callable[[], Awaitable[object]]


def spawner(nursery: trio.Nursery) -> Callable[[Work], None]:
    """What starts such work in `nursery`. Callable from the trio thread only."""
    return lambda work: nursery.start_soon(_guarded, work)


async def _guarded(work: Work) -> None:
    try:
        await work()
    except IbsError as error:
        _log.info("a session had ended already", reason=error.message)
    except Exception:  # noqa: BLE001 - the border of background work
        _log.exception("background work failed")


def leaf(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first of that kind inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := leaf(inner, kind)) is not None), None)
    return error if isinstance(error, kind) else None
