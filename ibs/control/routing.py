"""How a route is declared: method, path, who may call it, what goes in and what comes out.

Used by `control.routes.*`; `control.app` turns the declarations into quart routes and `control.openapi` into the
API description, so that the description cannot drift from the code. No route exists without a stated access rule.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ibs.core import limits
from ibs.core.access import Privilege
from ibs.errors import UsageError

if TYPE_CHECKING:
    from ibs.security.access import Principal
    from ibs.services.context import ServerContext

OCTETS = "application/octet-stream"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call. `privilege` None with `open` False: any identity, the handler owns the finer rule."""

    open: bool = False
    privilege: Privilege | None = None
    path: str = "/"
    why: str = ""


OPEN = Access(open=True, why="tells nothing that an unauthenticated peer may not know")


def authenticated(why: str) -> Access:
    """Any valid identity may call; `why` says which rule the handler applies."""
    return Access(why=why)


def needs(privilege: Privilege, path: str) -> Access:
    """`path` is a template over the route's path parameters, such as `/datastore/{store}`."""
    return Access(privilege=privilege, path=path)


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter. `kind` string, integer (bounded by `maximum`) or boolean (`0`/`1`)."""

    name: str
    kind: Literal["string", "integer", "boolean"] = "string"
    default: str | int | bool = ""
    maximum: int = limits.LIST_ROWS_MAX
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Octets:
    """A binary answer. `parts` is sent piece by piece when it is an iterator."""

    content: bytes | bytearray | memoryview | AsyncIterator[bytes]
    content_type: str = OCTETS


@dataclass(slots=True)
class Call:
    """One request, authenticated and decoded. `body` is the declared struct, or bytes for octets."""

    context: ServerContext
    principal: Principal
    path: dict[str, str]
    query: dict[str, Any]
    body: Any
    peer: str
    warnings: list[str] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    """What a handler tells the audit log, as JSON types without secrets: more about what came of it, by any names; or
    all of it as `before` and `after`, where `control.standing` cannot see it.
    """

    on_look: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)

    async def look(self) -> None:
        """To be called by a handler that owns the rule who may call, when the caller may, before it changes anything:
        how things stand is remembered for the audit log.
        """
        if self.on_look is not None:
            await self.on_look()


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A declared route. `body` is a struct type, OCTETS or None; `answer` likewise, or NDJSON, or TEXT (as Octets)."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    body: Any
    answer: Any
    query: Sequence[Query]
    status: int
    body_bytes_max: int
    tag: str
    bare: bool = False
    """Also served without the prefix of the API, for programs that expect a fixed path."""

    @property
    def operation(self) -> str:
        """Unique name of the operation: the handler's name."""
        return self.handler.__name__


class Routes:
    """A list of routes with a decorator; one instance a file in `control/routes/`."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def route(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        body: Any = None,
        answer: Any = None,
        query: Sequence[Query] = (),
        status: int = 200,
        body_bytes_max: int = limits.JSON_BODY_BYTES_MAX,
        bare: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Declare `handler` for METHOD `/api/v1` + `path`; its docstring's first line is the summary."""

        def declare(handler: Handler) -> Handler:
            summary = (handler.__doc__ or handler.__name__).strip().splitlines()[0]
            size = body_bytes_max if body is not None else 0
            self._routes.append(
                Route(method, path, handler, access, summary, body, answer, tuple(query), status, size, self.tag, bare)
            )
            return handler

        return declare


def read_query(route: Route, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Decode the query string by the declaration. Raises UsageError on unknown, repeated or malformed ones."""
    known = {query.name: query for query in route.query}
    values: dict[str, Any] = {query.name: query.default for query in route.query}
    seen = set()
    for name, text in given:
        query = known.get(name)
        if query is None or name in seen:
            hint = f"known are: {', '.join(known) or 'none'}"
            raise UsageError(f"query parameter {name[:64]!r} is unknown or repeated", hint=hint)
        seen.add(name)
        values[name] = _query_value(query, text)
    return values


def _query_value(query: Query, text: str) -> str | int | bool:
    if query.kind == "integer":
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= query.maximum):
            raise UsageError(f"query parameter {query.name} is not valid", hint=f"give a number up to {query.maximum}")
        return int(text)
    if query.kind == "boolean":
        if text not in ("0", "1", "true", "false"):
            raise UsageError(f"query parameter {query.name} is not valid", hint="give 0 or 1")
        return text in ("1", "true")
    if "\0" in text or len(text) > 4096:
        raise UsageError(f"query parameter {query.name} is not valid", hint="give a shorter text without NUL")
    return text


def read_body(route: Route, raw: bytes) -> Any:
    """Decode a request body by the declaration. Raises UsageError with the place of the mistake."""
    if route.body is None:
        return None
    if route.body == OCTETS:
        return raw
    try:
        return msgspec.json.decode(raw or b"{}", type=route.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the request body is not valid: {error}", hint="see /api/v1/openapi.json") from error


def read_ids(raw: bytes | bytearray) -> list[bytes]:
    """The chunk ids that a fetch asks for. Raises UsageError."""
    if not 0 < len(raw) <= limits.FETCH_IDS_MAX * ID_BYTES or len(raw) % ID_BYTES:
        raise UsageError("this is not a list of chunk ids", hint=f"send 1 to {limits.FETCH_IDS_MAX} ids of 32 bytes")
    return [bytes(raw[at : at + ID_BYTES]) for at in range(0, len(raw), ID_BYTES)]
