"""From an error body of the server back to the error it was: same class, words, hint and details.

Used by every way of reaching a server (`client.http`, `client.dataplane`). A code this version does not know becomes
the nearest class by HTTP status, so that exit status and advice stay right with newer servers.
"""

from __future__ import annotations

from collections.abc import Iterator

from ibs import errors
from ibs.errors import FailedError, IbsError
from ibs.wire.common import ErrorBody


def error_from_body(body: ErrorBody, status: int = 500) -> IbsError:
    """The error that `body` tells. `status` decides the class when the code is unknown."""
    kind = _CLASSES.get(body.code) or _by_status(status)
    # Some classes make their message of parts; what counts is what the server said, so no constructor runs.
    error = kind.__new__(kind, body.message)
    IbsError.__init__(error, body.message, hint=body.hint)
    error.details = dict(body.details)
    return error


def _classes(kind: type[IbsError]) -> Iterator[type[IbsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _classes(below)


def _by_status(status: int) -> type[IbsError]:
    if status in _STATUSES:
        return _STATUSES[status]
    return errors.UsageError if 400 <= status < 500 else FailedError


_CLASSES = {kind.code: kind for kind in _classes(IbsError)}
_STATUSES: dict[int, type[IbsError]] = {
    400: errors.UsageError,
    401: errors.NotAuthenticated,
    403: errors.RefusedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    410: errors.SessionLost,
    422: errors.UsageError,
    429: errors.BusyError,
    502: errors.ServerUnreachable,
    503: errors.UnavailableError,
    504: errors.ServerUnreachable,
}
