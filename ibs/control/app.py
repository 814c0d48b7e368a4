"""The quart-trio application: guard, decoding, error mapping and streaming around the declared routes.

Used by `control.server` and by tests. Every request goes the same way: bounded body, identity, decoded values,
right, handler, encoded answer. Nothing is read from a body before the caller is known.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ibs.control import openapi
from ibs.control.auditing import Record
from ibs.control.border import Border, internal_error, open_body
from ibs.control.peer import Peer
from ibs.control.routing import NDJSON, OCTETS, Call, Octets, Route, read_body, read_query
from ibs.core import limits
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.log import bound, get_logger
from ibs.security.pinning import PINS_HEADER
from ibs.version import API_VERSION
from ibs.wire.common import ErrorBody, body_of

if TYPE_CHECKING:
    from ibs.services.context import ServerContext

_PREFIX = f"/api/{API_VERSION}"
_JSON = "application/json"
_NOTHING_FITS = "see /api/v1/openapi.json"
_log = get_logger("api")


def create_app(context: ServerContext, routes: Iterable[Route]) -> Border:
    """An ASGI application serving `routes` below /api/v1."""
    routes = list(routes)
    app = QuartTrio("ibs", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max(route.body_bytes_max for route in routes)  # each route has its own too
    app.config["BODY_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # a redirect would be an answer that no client of ours expects
    document = msgspec.json.encode(openapi.describe(routes))

    async def api_description() -> Response:
        return Response(document, content_type=_JSON)

    app.add_url_rule(f"{_PREFIX}/openapi.json", "openapi", api_description, methods=["GET"])
    for route in routes:
        url = _PREFIX + route.path.replace("{", "<").replace("}", ">")
        view = _view(context, route)
        app.add_url_rule(url, route.operation, view, methods=[route.method], strict_slashes=True)
        if route.bare:
            app.add_url_rule(route.path, f"bare-{route.operation}", view, methods=[route.method], strict_slashes=True)
    app.register_error_handler(HTTPException, _http_error)
    return Border(app)


def _view(context: ServerContext, route: Route) -> Any:
    async def view(**path: str) -> Response:
        record = Record(getattr(context, "audit", None), route, path, request.remote_addr or "")
        try:
            return await _handled(context, route, path, record)
        except IbsError as error:
            await record.failed(error)
            return error_response(error)
        except trio.Cancelled:
            await record.cut_off()
            raise
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost border: logged whole, told in one sentence
            cause = _only_ibs_error(error)
            await record.failed(cause)
            if cause is not None:
                return error_response(cause)
            _log.exception("request failed", operation=route.operation)
            return Response(msgspec.json.encode(internal_error()), status=500, content_type=_JSON)

    return view


async def _handled(context: ServerContext, route: Route, path: dict[str, str], record: Record) -> Response:
    """The answer of a request that is let in; a change is written down before it is given."""
    record.call = call = await _admit(context, route, path, record)
    await record.begin()
    with bound(auth_id=call.principal.auth_id):
        answer = await route.handler(call)
    response = _encode(route, answer)
    response.headers[PINS_HEADER] = context.certificates.pins
    await record.done()
    return response


def _only_ibs_error(error: BaseException) -> IbsError | None:
    """The one error of ours inside nested exception groups, if that is all there is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, IbsError) else None


async def _admit(context: ServerContext, route: Route, path: dict[str, str], record: Record) -> Call:
    peer = request.remote_addr or ""
    if route.access.open:
        principal = context.access.anonymous
    else:
        principal = await context.access.authenticate(request.headers.get("Authorization", ""), peer)
        _admit_connection()
    record.principal = principal
    if any("\0" in value or len(value) > limits.PATH_PART_CHARS_MAX for value in path.values()):
        raise NotFoundError("no such path", hint=_NOTHING_FITS)
    if route.access.privilege is not None:
        context.access.require(principal, route.access.privilege, route.access.path.format(**path))
    query = read_query(route, list(request.args.items(multi=True)))
    body = read_body(route, await _bounded_body(route))
    return Call(context, principal, dict(path), query, body, peer)


def _admit_connection() -> None:
    """The connection has brought a good credential: it may stay."""
    connection = request.scope.get("state", {}).get("peer")
    if isinstance(connection, Peer):
        connection.admit()


async def _bounded_body(route: Route) -> bytes:
    """The whole body; counted while it comes in, so that a lying or absent Content-Length changes nothing.

    It has to keep a small rate, so that slow lines may be used and nobody can occupy a connection for ever.
    """
    pieces: list[bytes] = []
    size = 0
    too_large = (request.content_length or 0) > route.body_bytes_max
    if not too_large:
        open_body(cast(Any, request.scope))
        with trio.move_on_after(limits.BODY_STALL_SECONDS_MAX) as patience:
            begin = patience.deadline
            async for piece in request.body:
                size += len(piece)
                too_large = size > route.body_bytes_max
                if too_large:
                    break
                pieces.append(piece)
                patience.deadline = begin + size / limits.BODY_BYTES_PER_SECOND_MIN
        if patience.cancelled_caught:
            raise UsageError("the request body did not arrive in time", hint="send it faster, or in parts")
    if too_large:
        raise UsageError(f"the request body is larger than {route.body_bytes_max} bytes", hint="send it in parts")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _encode(route: Route, answer: Any) -> Response:
    if isinstance(answer, Octets):
        content = answer.content if isinstance(answer.content, bytes | AsyncIterator) else bytes(answer.content)
        response = Response(content, status=route.status, content_type=answer.content_type)
    elif route.answer == NDJSON:
        response = Response(_lines(answer), status=route.status, content_type=NDJSON)
    elif route.answer is None:
        return Response(b"", status=openapi.answer_status(route))
    elif route.answer == OCTETS:
        response = Response(bytes(answer), status=route.status, content_type=OCTETS)
    else:
        response = Response(msgspec.json.encode(answer), status=route.status, content_type=_JSON)
    response.timeout = None
    return response


async def _lines(items: AsyncGenerator[Any]) -> AsyncIterator[bytes]:
    async with aclosing(items):
        async for item in items:
            yield msgspec.json.encode(item) + b"\n"


def error_response(error: IbsError) -> Response:
    """The answer for an error of ours: its status and ErrorBody."""
    response = Response(msgspec.json.encode(body_of(error)), status=error.http_status, content_type=_JSON)
    if error.http_status == 503:
        response.headers["Retry-After"] = "5"
    if error.http_status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    code, message = {
        404: ("not-found", "no such path"),
        405: ("usage", "this path does not take that method"),
    }.get(status, ("usage", f"the request is not valid: {error.name}"))
    body = internal_error() if status >= 500 else ErrorBody(code=code, message=message, hint=_NOTHING_FITS)
    response = Response(msgspec.json.encode(body), status=status, content_type=_JSON)
    if status == 405 and getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # type: ignore[attr-defined]
    return response
