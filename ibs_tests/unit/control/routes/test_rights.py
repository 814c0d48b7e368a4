"""Who reaches which route: every declared route with every kind of caller. A new route without a row here fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from ibs.control.app import create_app
from ibs.control.routes import ALL
from ibs.control.routing import OCTETS, Route
from ibs.core.access import ROLES, Privilege
from ibs_tests.support.control import OWNER, READER, SESSION, UPID, Certificates, FakeContext, Served, sample, serving

WITH_LOOKS = True  # nobody without rights may cause one
ANONYMOUS, NO_RIGHTS = "anonymous", "no rights"
ALL_ROLES = {**ROLES, "Checker": frozenset({Privilege.DATASTORE_VERIFY, Privilege.TASK_STOP})}
"""The built-in roles, and one of an administrator's own."""
GRANTS = {role: "/datastore/main" if role.startswith("Datastore.") else "/" for role in ALL_ROLES}
MEMBER = "member"
"""A user that has nothing of its own and is in a group with a role."""
HELD = {**ALL_ROLES, MEMBER: ROLES["Datastore.PowerUser"]}
GRANTS[MEMBER] = "/datastore/main"
CALLERS = (ANONYMOUS, NO_RIGHTS, *GRANTS)
KNOWN = (NO_RIGHTS, *GRANTS)


def any_of(*privileges: Privilege) -> tuple[str, ...]:
    """The callers that hold one of them on the datastore."""
    return tuple(caller for caller in HELD if HELD[caller] & set(privileges))


_P = Privilege
SEEING = any_of(_P.DATASTORE_AUDIT, _P.DATASTORE_BACKUP)
LISTING = any_of(_P.DATASTORE_AUDIT, _P.DATASTORE_READ, _P.DATASTORE_BACKUP)
MODIFYING = any_of(_P.DATASTORE_MODIFY)


def everywhere(privilege: Privilege) -> tuple[str, ...]:
    """The callers that hold it on all of the system."""
    return tuple(caller for caller in HELD if privilege in HELD[caller] and GRANTS[caller] == "/")


OWN = "only the owner, whatever rights others have"
# Routes whose handler decides. Everywhere else the declared privilege does.
DECIDED_BY_HANDLER: dict[str, Any] = {
    "whoami": KNOWN,
    "access_explain": KNOWN,  # of oneself
    "logout": KNOWN,  # one's own
    "password_set": everywhere(_P.ACCESS_MODIFY),  # the user in the path is another
    "totp_enable": everywhere(_P.ACCESS_MODIFY),
    "totp_disable": everywhere(_P.ACCESS_MODIFY),
    "datastore_list": KNOWN,  # filtered
    "remote_list": KNOWN,  # filtered
    "sync_pull": tuple(caller for caller in MODIFYING if caller in any_of(_P.REMOTE_READ)),  # both
    "group_list": LISTING,
    "snapshot_list": LISTING,
    "snapshot_show": LISTING,
    "snapshot_change": any_of(_P.DATASTORE_MODIFY, _P.DATASTORE_BACKUP),
    "snapshot_forget": any_of(_P.DATASTORE_MODIFY, _P.DATASTORE_PRUNE),
    "bin_list": SEEING,
    "bin_undo": any_of(_P.DATASTORE_MODIFY, _P.DATASTORE_PRUNE),
    "namespace_list": SEEING,
    "namespace_create": MODIFYING,
    "namespace_remove": MODIFYING,
    "group_owner": MODIFYING,
    "group_move": MODIFYING,
    "retention_set": MODIFYING,
    "snapshot_lock": MODIFYING,
    "compliance_set": MODIFYING,
    "retention_clear": MODIFYING,
    "prune_simulate": any_of(_P.DATASTORE_AUDIT, _P.DATASTORE_PRUNE),
    "prune_run": any_of(_P.DATASTORE_MODIFY, _P.DATASTORE_PRUNE),
    "session_open": any_of(_P.DATASTORE_BACKUP),
    "agent_poll": (),  # the agent of a host only
    "agent_session": (),
    "agent_log": (),
    "agent_end": (),
    "reader_open": any_of(_P.DATASTORE_READ, _P.DATASTORE_BACKUP),
    "gc_status": KNOWN,  # filtered
    "schedule_list": KNOWN,  # filtered
    "schedule_set": MODIFYING,
    "schedule_unset": MODIFYING,
    "task_list": KNOWN,  # filtered
    "task_show": everywhere(_P.TASK_AUDIT),
    "task_log": everywhere(_P.TASK_AUDIT),
    "task_stop": everywhere(_P.TASK_STOP),
    "task_retry": everywhere(_P.SYSTEM_MODIFY),
    "session_base": OWN,
    "session_available": OWN,
    "session_resumed": OWN,
    "session_chunk": OWN,
    "session_suspect": OWN,
    "session_send": OWN,
    "session_append": OWN,
    "session_close_archive": OWN,
    "session_blob": OWN,
    "session_report": OWN,
    "session_commit": OWN,
    "session_abort": OWN,
    "reader_file": OWN,
    "reader_fetch": OWN,
    "reader_close": OWN,
}
# What those who may not are told, where it is not 403: nobody learns what exists.
HIDDEN = {"task_show": 404, "task_log": 404, "task_stop": 404, "task_retry": 404}

SNAPSHOT = "host/a/2026-11-22T19:00:00Z"
BODY = {
    "notification_target_update": {"name": "client.log"},
    "reader_open": {"snapshot": "host/a"},
    "snapshot_change": {"snapshot": SNAPSHOT},
    "snapshot_forget": {"snapshot": SNAPSHOT},
    "snapshot_lock": {"snapshot": SNAPSHOT},
    "bin_undo": {"entry": SNAPSHOT},
    "group_owner": {"group": "host/a"},
    "group_move": {"group": "host/a"},
}
PATH = {
    "store": "main",
    "sid": SESSION,
    "rid": READER,
    "archive": "etc.tree",
    "chunk": "ab" * 32,
    "name": "client.log",
    "upid": UPID,
    "role": "gc",
    "auth_id": "a@ibs!t",
    "n": "1",
    "fingerprint": "aa:bb",
}
QUERY = {"snapshot_show": {"name": "host/a/2026-11-22T19:00:00Z"}}


def allowed(route: Route, caller: str) -> bool:
    """What the table and the declarations say."""
    if route.access.open:
        return True
    if caller == ANONYMOUS:
        return False
    if route.access.privilege is not None:
        path = route.access.path.format(**PATH)
        above = caller in GRANTS and f"{path}/".startswith(GRANTS[caller].rstrip("/") + "/")
        return above and route.access.privilege in HELD[caller]
    who = DECIDED_BY_HANDLER[route.operation]
    return who is not OWN and caller in who


def refused_with(route: Route, caller: str) -> int:
    if caller == ANONYMOUS:
        return 401
    if DECIDED_BY_HANDLER.get(route.operation) is OWN:
        return 410
    return HIDDEN.get(route.operation, 403)


async def send(http: httpx.AsyncClient, route: Route) -> httpx.Response:
    """A request that is right in form."""
    content: bytes | None = None
    if route.body == OCTETS:
        content = bytes(32)
    elif route.body is not None:
        content = msgspec.json.encode(sample(route.body, **BODY.get(route.operation, {})))
    path = route.path.format(**PATH)
    return await http.request(route.method, path, content=content, params=QUERY.get(route.operation))


@pytest.fixture
def context() -> FakeContext:
    made = FakeContext()
    made.access.token("nobody@ibs!t")
    made.access.roles = ALL_ROLES
    for role in ALL_ROLES:
        made.access.grant(f"{role}@ibs!t", role, GRANTS[role])
    made.access.join(f"{MEMBER}@ibs!t", "@operators", "Datastore.PowerUser", GRANTS[MEMBER])
    made.access.token(OWNER)
    return made


@pytest.fixture
async def served(context: FakeContext, certificates: Certificates) -> AsyncIterator[Served]:
    async with serving(create_app(context, ALL), certificates) as running:  # type: ignore[arg-type]
        yield running


def credential(caller: str) -> str:
    return {ANONYMOUS: "", NO_RIGHTS: "nobody@ibs!t:secret"}.get(caller, f"{caller}@ibs!t:secret")


@pytest.mark.parametrize("caller", CALLERS)
async def test_matrix(served: Served, context: FakeContext, caller: str) -> None:
    wrong = []
    async with served.http(credential(caller)) as http:
        for route in ALL:
            context.asked.clear()
            answer = await send(http, route)
            wanted = allowed(route, caller)
            fits = answer.is_success if wanted else answer.status_code == refused_with(route, caller)
            if not fits:
                wrong.append((route.operation, answer.status_code, wanted, answer.text[:200]))
            if not wanted and context.asked:
                wrong.append((route.operation, "something was asked of the engine", context.asked[:], ""))
    assert wrong == []


async def test_the_owner_reaches_the_session_and_the_reader(served: Served) -> None:
    async with served.http(f"{OWNER}:secret") as http:
        for route in ALL:
            if DECIDED_BY_HANDLER.get(route.operation) is OWN:
                assert (await send(http, route)).is_success, route.operation
            if route.operation.startswith("task_"):
                assert (await send(http, route)).is_success, route.operation


def test_every_route_states_its_rule() -> None:
    for route in ALL:
        stated = [route.access.open, route.access.privilege is not None, route.operation in DECIDED_BY_HANDLER]
        assert stated.count(True) == 1, route.operation
        if route.access.privilege is None:
            assert route.access.why
    assert set(DECIDED_BY_HANDLER) <= {route.operation for route in ALL}


def test_only_ping_and_ways_to_come_in_are_open() -> None:
    assert [route.operation for route in ALL if route.access.open] == ["ping", "agent_join", "login"]


async def test_a_right_elsewhere_is_no_right_here(served: Served, context: FakeContext) -> None:
    """Rights on one datastore open no other, whatever a name looks like."""
    elsewhere = context.access.grant("b@ibs!t", "Datastore.Admin", "/datastore/other")
    async with served.http(elsewhere) as http:
        for name in ("main", "othe", "others", "other%2f..%2fmain", "..%2fother", "Other", "%2e%2e"):
            for method, path in (
                ("GET", ""),
                ("GET", "/stats"),
                ("POST", "/probe"),
                ("DELETE", ""),
                ("GET", "/snapshots"),
            ):
                answer = await http.request(method, f"/datastores/{name}{path}")
                assert answer.status_code in {400, 403, 404}, (name, path, answer.status_code)
        assert context.asked == []
        assert (await http.get("/datastores/other")).is_success


async def test_rights_on_a_namespace_are_rights_there(served: Served, context: FakeContext) -> None:
    inside = context.access.grant("c@ibs!t", "Datastore.Backup", "/datastore/main/office")
    async with served.http(inside) as http:
        body = {"store": "main", "group": "host/a", "archives": ["etc.tree"]}
        for namespace, status in (("office", 200), ("office/web", 200), ("", 403), ("officer", 403), ("lab", 403)):
            answer = await http.post("/datastores/main/sessions", json=body | {"namespace": namespace})
            assert answer.status_code == status, (namespace, answer.text)
            answer = await http.get("/datastores/main/groups", params={"namespace": namespace})
            assert answer.status_code == status, namespace
        answer = await http.post("/datastores/main/sessions", json=body | {"namespace": "office/../lab"})
        assert answer.status_code == 400
