"""The API description (OpenAPI 3.1), made from the declared routes. Served at /api/v1/openapi.json."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ibs.control.routing import NDJSON, OCTETS, TEXT, Query, Route
from ibs.version import API_VERSION, PRODUCT, VERSION
from ibs.wire.common import ErrorBody

_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document as a JSON-ready object."""
    routes = list(routes)
    kinds = [ErrorBody]
    for route in routes:
        kinds += [kind for kind in (route.body, route.answer) if kind is not None and not isinstance(kind, str)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip([repr(kind) for kind in kinds], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": PRODUCT, "version": VERSION, "description": "Control plane. Errors have the body ErrorBody."},
        "servers": [{"url": f"/api/{API_VERSION}"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "AUTH-ID:SECRET"}},
        },
    }


def _operation(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [_path_parameter(name) for name in _PARAMETER.findall(route.path)]
        + [_query_parameter(query) for query in route.query],
        "responses": {
            str(answer_status(route)): {"description": "done", **_content(route.answer, by_kind)},
            "default": {"description": "error", **_content(ErrorBody, by_kind)},
        },
        "security": [] if route.access.open else [{"token": []}],
        "x-access": route.access.why or f"{route.access.privilege} on {route.access.path}",
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, **_content(route.body, by_kind)}
    return operation


def answer_status(route: Route) -> int:
    """The status of a success: 204 when nothing is answered."""
    return 204 if route.answer is None and route.status == 200 else route.status


def _content(kind: Any, by_kind: dict[str, Any]) -> dict[str, Any]:
    if kind is None:
        return {}
    if kind in (OCTETS, NDJSON, TEXT):
        return {"content": {kind: {"schema": {"type": "string"}}}}
    return {"content": {"application/json": {"schema": by_kind[repr(kind)]}}}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.kind, "default": query.default}
    if query.kind == "integer":
        schema |= {"minimum": 0, "maximum": query.maximum}
    return {"name": query.name, "in": "query", "required": False, "schema": schema, "description": query.doc}
