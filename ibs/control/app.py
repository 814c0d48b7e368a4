"""The quart-trio application: guard, decoding, error mapping and streaming around the declared routes.

Used by `control.server` and by tests. Every request goes the same way: bounded body, identity, decoded values,
right, handler, encoded answer. Nothing is read from a body before the caller is known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ibs.control import openapi
from ibs.control.routing import NDJSON, OCTETS, Call, Octets, Route, read_body, read_query
from ibs.core import limits
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.services.context import ServerContext
from ibs.version import API_VERSION
from ibs.wire.common import ErrorBody

_PREFIX = f"/api/{API_VERSION}"
_JSON = "application/json"
_BODY_SECONDS_MAX = 60
_log = get_logger("api")


def create_app(context: ServerContext, routes: Iterable[Route]) -> QuartTrio:
    """An ASGI application serving `routes` below /api/v1."""
    routes = list(routes)
    app = QuartTrio("ibs", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max(route.body_bytes_max for route in routes)  # each route has its own too
    app.config["BODY_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = None
    document = msgspec.json.encode(openapi.describe(routes))

    async def api_description() -> Response:
        return Response(document, content_type=_JSON)

    app.add_url_rule(f"{_PREFIX}/openapi.json", "openapi", api_description, methods=["GET"])
    for route in routes:
        url = _PREFIX + route.path.replace("{", "<").replace("}", ">")
        app.add_url_rule(url, route.operation, _view(context, route), methods=[route.method], strict_slashes=True)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _view(context: ServerContext, route: Route) -> Any:
    async def view(**path: str) -> Response:
        try:
            call = await _admit(context, route, path)
            answer = await route.handler(call)
            return _encode(route, answer)
        except IbsError as error:
            return error_response(error)
        except trio.Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost border: logged whole, told in one sentence
            cause = _only_ibs_error(error)
            if cause is not None:
                return error_response(cause)
            _log.exception("request failed", operation=route.operation)
            return error_response(IbsError("internal error; the api log has the details"))

    return view


def _only_ibs_error(error: BaseException) -> IbsError | None:
    """The one error of ours inside nested exception groups, if that is all there is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, IbsError) else None


async def _admit(context: ServerContext, route: Route, path: dict[str, str]) -> Call:
    peer = request.remote_addr or ""
    if route.access.open:
        principal = context.access.anonymous
    else:
        principal = await context.access.authenticate(request.headers.get("Authorization", ""), peer)
    if any("\0" in value or len(value) > 1024 for value in path.values()):
        raise NotFoundError("no such path", hint="see /api/v1/openapi.json")
    if route.access.privilege is not None:
        context.access.require(principal, route.access.privilege, route.access.path.format(**path))
    query = read_query(route, list(request.args.items(multi=True)))
    body = read_body(route, await _bounded_body(route))
    return Call(context, principal, dict(path), query, body, peer)


async def _bounded_body(route: Route) -> bytes:
    """The whole body; counted while it comes in, so that a lying or absent Content-Length changes nothing."""
    pieces: list[bytes] = []
    size = request.content_length or 0
    if size <= route.body_bytes_max:
        size = 0
        with trio.move_on_after(_BODY_SECONDS_MAX) as deadline:
            async for piece in request.body:
                size += len(piece)
                if size > route.body_bytes_max:
                    break
                pieces.append(piece)
        if deadline.cancelled_caught:
            raise UsageError("the request body did not arrive in time", hint="send it faster, or in parts")
    if size > route.body_bytes_max:
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


async def _lines(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for item in items:
        yield msgspec.json.encode(item) + b"\n"


def error_response(error: IbsError) -> Response:
    """The answer for an error of ours: its status and ErrorBody."""
    body = ErrorBody(
        code=error.code, message=error.message, hint=error.hint, retry=str(error.retry), details=error.details
    )
    response = Response(msgspec.json.encode(body), status=error.http_status, content_type=_JSON)
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
        413: ("usage", f"the request body is larger than {limits.JSON_BODY_BYTES_MAX} bytes"),
    }.get(status, ("usage" if status < 500 else "error", error.name))
    body = ErrorBody(code=code, message=message, hint="see /api/v1/openapi.json")
    response = Response(msgspec.json.encode(body), status=status, content_type=_JSON)
    if status == 405 and getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # type: ignore[attr-defined]
    return response
