"""The whole API under generated requests: described answers only, no internal error, nothing without a credential."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter

from ibs.control.routes import ALL
from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import many_files

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of libraries that schemathesis imports
    import schemathesis
    from schemathesis.specs.openapi import checks

Mode = schemathesis.GenerationMode
EXAMPLES = 12
# The API answers these on purpose: offline or busy, and full or read-only.
ANSWERED = {503, 507}


class Pinned(HTTPAdapter):
    """Lets `requests` talk to the one server with this certificate."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        context = pinned_context(self._fingerprint)
        options |= {"ssl_context": context, "assert_hostname": False, "assert_fingerprint": self._fingerprint}
        super().init_poolmanager(*arguments, **options)


@dataclass(frozen=True)
class World:
    """A server with something in it, and names of things that exist there."""

    server: ServerProcess
    schema: Any
    session: requests.Session
    known: dict[str, str]
    body: dict[str, Any]
    tree: Path

    @property
    def base(self) -> str:
        return f"{self.server.url}/api/v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("api")
    tree = folder / "tree"
    many_files(tree, seed=1, count=20)
    with running_server(folder) as server, requests.Session() as session:
        for name in ("main", "spare"):
            server.admin("datastore", "create", name, "--path", str(folder / name))
        server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "x")
        server.make_token("user", ("/datastore/main", "Datastore.Backup"))
        session.mount("https://", Pinned(server.facts["fingerprint"]))
        session.trust_env = False
        session.verify = False  # by an authority; the adapter compares the certificate itself
        session.headers["Authorization"] = f"Bearer {server.token}"
        base = f"{server.url}/api/v1"
        document = session.get(f"{base}/openapi.json").json()
        opened = session.post(
            f"{base}/datastores/main/sessions", json={"store": "main", "group": "host/y", "archives": ["t.tree"]}
        ).json()
        reader = session.post(f"{base}/datastores/main/readers", json={"snapshot": "host/x"}).json()
        tasks = session.get(f"{base}/tasks").json()
        known = {
            "store": "main",
            "sid": opened["session_id"],
            "rid": reader["reader_id"],
            "archive": "t.tree",
            "name": "t.tree.idx",
            "chunk": "00" * 32,
            "upid": next(task["upid"] for task in tasks if task["state"] == "OK"),
            "role": "gc",
            "auth_id": "user@ibs!t",
        }
        body = {"snapshot": "host/x", "group": "host/z", "archives": ["t.tree"], "namespace": ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schema = schemathesis.openapi.from_dict(document)
        yield World(server, schema, session, known, body, tree)


def harmless(world: World, case: Any) -> None:
    """Keep what a request does within the test's own folders, and its length within seconds."""
    body = case.body
    if isinstance(body, dict):
        if isinstance(body.get("path"), str) and case.operation.path == "/datastores":
            inside = body["path"].replace("..", "").strip("/")
            body["path"] = str(world.server.folder / "made" / inside) if inside else ""
        if isinstance(body.get("sources"), list):
            body["sources"] = [
                f"{one.partition(':')[0]}:{world.tree}" if isinstance(one, str) and ":" in one else one
                for one in body["sources"]
            ]
    if case.query:
        case.query.pop("follow", None)


def meet(world: World, case: Any) -> None:
    """Let some requests name things that are there, so that they get further than the first look-up."""
    removes = case.operation.method.upper() == "DELETE"
    for name in case.path_parameters or {}:
        if name in world.known and not removes:
            case.path_parameters[name] = world.known[name]
    if isinstance(case.body, dict):
        for name, value in world.body.items():
            if name in case.body:
                case.body[name] = value
        if "sources" in case.body:
            case.body["sources"] = [f"t.tree:{world.tree}"]
        if "store" in case.body:
            case.body["store"] = "main"


def check(world: World, case: Any) -> None:
    answer = case.call(base_url=world.base, session=world.session, verify=False, timeout=30)
    case.validate_response(
        answer,
        checks=[
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
    )
    if answer.status_code >= 400:
        told = json.loads(answer.content)
        assert told["message"]
        assert told["code"] != "error", told
        assert "Traceback" not in answer.text
    assert answer.status_code < 500 or answer.status_code in ANSWERED, answer.text


def requests_for(world: World, name: str, mode: Any, examples: int) -> Callable[[Callable[..., None]], None]:
    """Calls what it is given with generated requests of one operation, the same ones in each run."""
    operation = world.schema.find_operation_by_id(name)
    bounded = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def run(test: Callable[..., None]) -> None:
        try:
            bounded(given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())(test))()
        except Unsatisfiable:
            # Where nothing is sent nothing can be sent wrongly.
            assert mode is Mode.NEGATIVE
            assert not operation.definition.raw["parameters"]
            assert "requestBody" not in operation.definition.raw

    return run


# A new certificate would lock out this very test, which pins the one that the server began with.
NAMES = [route.operation for route in ALL if route.operation != "certificate_renew"]


@pytest.mark.parametrize("mode", [Mode.POSITIVE, Mode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", NAMES)
def test_generated_requests(world: World, name: str, mode: Any) -> None:
    """No request, well formed or not, makes an internal error or an answer that is not described."""

    def test(case: Any, known: bool) -> None:
        if known:
            meet(world, case)
        harmless(world, case)
        check(world, case)

    requests_for(world, name, mode, EXAMPLES)(test)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer ",
        "Bearer root@ibs!local",
        "Bearer root@ibs!local:",
        "Bearer root@ibs!local:wrong",
        "Bearer nobody@ibs!t:wrong",
        "Basic cm9vdEBpYnM6eA==",
        "Bearer " + "x" * 5000,
        "Bearer root@ibs!local:\xff",
    ],
)
def test_nothing_but_ping_without_a_credential(world: World, authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
    with requests.Session() as stranger:
        stranger.mount("https://", Pinned(world.server.facts["fingerprint"]))
        stranger.trust_env = False
        for name in NAMES:
            requests_for(world, name, Mode.POSITIVE, 2)(refusal(world, name, stranger, headers))


def refusal(world: World, name: str, stranger: requests.Session, headers: dict[str, Any]) -> Callable[..., None]:
    """Expects that the stranger is refused, whatever is asked and whether or not it exists."""

    def test(case: Any, known: bool) -> None:
        if known:
            meet(world, case)
        harmless(world, case)
        case.headers = {}
        answer = case.call(base_url=world.base, session=stranger, headers=headers, verify=False, timeout=30)
        assert answer.status_code == (200 if name == "ping" else 401), (name, answer.text)
        if name != "ping":
            assert answer.json()["code"] == "not-authenticated"

    return test


def test_the_server_came_through_unharmed(world: World) -> None:
    """Last: no role has died, nothing was an internal error, and what was backed up is there and whole."""
    status = world.session.get(f"{world.base}/status").json()
    asked_to = world.known["role"]  # a role can be restarted over the API, and was
    assert {service["restarts"] for service in status["services"] if service["role"] != asked_to} == {0}
    log = (world.server.folder / "log" / "api.log").read_text()
    assert "request failed" not in log
    assert "connection failed" not in log
    assert world.server.token not in log
    back = world.server.folder / "back"
    world.server.client("main", "restore", "host/x", "t.tree", str(back))
    assert tree_differences(str(world.tree), str(back)) == []
