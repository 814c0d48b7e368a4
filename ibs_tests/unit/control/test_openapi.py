"""The description cannot drift: it is made of the declarations, valid, complete, and says who may call what."""

from __future__ import annotations

import re

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from ibs.control import openapi
from ibs.control.routes import ALL
from ibs.control.routing import NDJSON, OCTETS, Route

DOCUMENT = openapi.describe(ALL)
PLACES = sorted({(route.path, route.method) for route in ALL})


def test_the_document_is_valid_openapi_3_1() -> None:
    jsonschema_rs.validate(OPENAPI_31, DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_route_is_described_once() -> None:
    assert len(PLACES) == len(ALL)
    described = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == set(PLACES)
    operations = [item["operationId"] for path in DOCUMENT["paths"].values() for item in path.values()]
    assert len(operations) == len(set(operations)) == len(ALL)


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.operation)
def test_each_operation_says_what_it_does_and_who_may(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["summary"].endswith(".")
    assert operation["x-access"]
    assert operation["security"] == ([] if route.access.open else [{"token": []}])
    assert route.access.open == (route.operation in {"ping", "agent_join", "login"})
    in_path = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
    assert in_path == re.findall(r"\{(\w+)\}", route.path)
    in_query = {one["name"]: one["schema"] for one in operation["parameters"] if one["in"] == "query"}
    assert set(in_query) == {query.name for query in route.query}
    for query in route.query:
        assert in_query[query.name]["type"] == query.kind
    assert ("requestBody" in operation) == (route.body is not None)
    answer = operation["responses"][str(openapi.answer_status(route))]
    if route.answer in (OCTETS, NDJSON):
        assert list(answer["content"]) == [route.answer]
    else:
        assert ("content" in answer) == (route.answer is not None)
    assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.operation)
def test_access_paths_use_parameters_that_exist(route: Route) -> None:
    wanted = set(re.findall(r"\{(\w+)\}", route.access.path))
    assert wanted <= set(re.findall(r"\{(\w+)\}", route.path))


def test_methods_mean_what_they_say() -> None:
    """What reads is GET and takes no body; so a repeated or prefetched GET changes nothing."""
    for route in ALL:
        if route.method == "GET":
            assert route.body is None
        assert route.method in {"GET", "POST", "PUT", "DELETE"}


def test_references_lead_somewhere() -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert names <= set(DOCUMENT["components"]["schemas"])
