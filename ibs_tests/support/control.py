"""A control plane without a server behind it: real port, TLS, HTTP and guard; answers that are made up.

`FakeContext` stands for `services.context.ServerContext`. What is asked of it is kept in `asked`; every answer is a
value of the right type. Rights are decided by the real rules of `core.access`.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import httpx
import msgspec
import trio

from ibs.control.listener import Address, Listener
from ibs.core.access import ROLES, AclRule, Privilege, allowed, allowed_within
from ibs.core.publickey import PublicKey
from ibs.errors import NotAuthenticated, NotFoundError, RefusedError, SessionLost
from ibs.security import tls
from ibs.security.access import Principal
from ibs.services.context import Endpoint
from ibs.wire.access import (
    CertificateView,
    Explained,
    LoginGranted,
    LoginView,
    RoleView,
    TotpMade,
    UserGroupView,
)
from ibs.wire.audit import AuditCheck, AuditView
from ibs.wire.common import Wire
from ibs.wire.datastore import (
    Damage,
    DatastoreStats,
    DatastoreView,
    GroupView,
    ProbeResult,
    SnapshotView,
    UsageRow,
    VerifyOutlook,
    VerifyReport,
)
from ibs.wire.gc import GcStatus
from ibs.wire.hosts import AgentEnd, AgentJoined, AgentOrders, AgentPoll, HostInvited, HostView
from ibs.wire.jobs import JobView, TaskKeeping
from ibs.wire.keys import KeyPolicy, KeyView
from ibs.wire.lifecycle import (
    BinEmptied,
    BinView,
    ClockView,
    ComplianceView,
    GroupMoved,
    GroupOwnerChanged,
    NamespaceRemoved,
    NamespaceView,
    PrunePlanView,
    RetentionView,
)
from ibs.wire.notification import GroupSpec, HistoryView, RuleSpec, TargetView, TestResult
from ibs.wire.reader import ReaderOpened
from ibs.wire.realms import RealmView
from ibs.wire.remotes import RemoteTest, RemoteView
from ibs.wire.schedule import ScheduleView
from ibs.wire.session import ArchiveClosed, CommitResult, SessionOpen, SessionOpened, StageReport
from ibs.wire.sla import SlaView
from ibs.wire.sync import SyncJobView, SyncStatus
from ibs.wire.system import (
    AclEntry,
    InboxView,
    ServerStatus,
    ServiceView,
    TaskLogLine,
    TaskView,
    TokenCreated,
    TokenView,
    UserView,
    WorkerView,
)

W = TypeVar("W", bound=Wire)
OWNER = "owner@ibs!t"
AGENT = "agent-web01@ibs!agent"
SESSION, READER = "the-session", "the-reader"
UPID = "UPID:n:00000001:00000002:00000003:00000004:backup:x:owner@ibs!t:"
_TEXTS = {"auth_id": OWNER, "owner": OWNER, "upid": UPID, "session_id": SESSION, "reader_id": READER, "role": "gc"}


def sample(kind: type[W], **given: Any) -> W:
    """A value with made-up required fields, the optional ones left out."""
    hints = get_type_hints(kind)
    values = {
        one.name: given.get(one.name, _TEXTS.get(one.name, _made_up(hints[one.name])))
        for one in msgspec.structs.fields(kind)
        if one.required
    }
    return kind(**(values | given))


def _made_up(kind: Any) -> Any:
    if get_origin(kind) is list:
        inner = get_args(kind)[0]
        return [_made_up(inner)]
    if get_origin(kind) is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return sample(kind)  # type: ignore[type-var]
    return {str: "x", int: 1, float: 1.5, bool: True}.get(kind)


class FakeAccess:
    """Tokens by `AUTH-ID:SECRET`; rules as granted."""

    anonymous = Principal("")

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.rules: list[AclRule] = []
        self.roles: Mapping[str, frozenset[Privilege]] = ROLES
        self.groups: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str]] = []

    def grant(self, auth_id: str, role: str, path: str = "/") -> str:
        """Give user and token the role; return the bearer credential."""
        self.rules += [AclRule(path, role, auth_id), AclRule(path, role, auth_id.partition("!")[0])]
        return self.token(auth_id)

    def join(self, auth_id: str, group: str, role: str, path: str) -> str:
        """Give the role to the group of the token's user, and to the token; return the bearer credential."""
        self.rules += [AclRule(path, role, auth_id), AclRule(path, role, group)]
        self.groups.setdefault(auth_id.partition("!")[0], []).append(group)
        return self.token(auth_id)

    def _facts(self, principal: Principal) -> tuple[Mapping[str, frozenset[Privilege]], list[str]]:
        return self.roles, self.groups.get(principal.auth_id.partition("!")[0], [])

    def token(self, auth_id: str) -> str:
        """A credential without rights of its own."""
        self.tokens[f"{auth_id}:secret"] = auth_id
        return f"{auth_id}:secret"

    async def authenticate(self, header: str, peer: str) -> Principal:
        await trio.lowlevel.checkpoint()
        self.asked.append((header, peer))
        auth_id = self.tokens.get(header.removeprefix("Bearer "))
        if auth_id is None or not header.startswith("Bearer "):
            raise NotAuthenticated("the credential is not valid")
        return Principal(auth_id, peer)

    def allows(self, principal: Principal, privilege: Privilege, path: str) -> bool:
        return allowed(self.rules, principal.auth_id, path, privilege, *self._facts(principal)).ok

    def allows_within(self, principal: Principal, privilege: Privilege, path: str) -> bool:
        return allowed_within(self.rules, principal.auth_id, path, privilege, *self._facts(principal))

    def require(self, principal: Principal, privilege: Privilege, path: str) -> None:
        if not principal.auth_id:
            raise NotAuthenticated("no credential was given")
        allowed(self.rules, principal.auth_id, path, privilege, *self._facts(principal)).require()


class Recorder:
    """Any async method may be called: it is noted in `asked`, and answered from `answers` by name."""

    def __init__(self, asked: list[tuple[Any, ...]], answers: Mapping[str, Any]) -> None:
        self.asked = asked
        self.answers = dict(answers)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in self.answers:
            raise AttributeError(name)

        async def method(*arguments: Any, **named: Any) -> Any:
            await trio.lowlevel.checkpoint()
            answer = self.answers[name]
            answer = await answer(*arguments, **named) if callable(answer) else answer
            self.asked.append((name, *arguments, *named.values()))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method


class FakeSession(Recorder):
    """A write session; counts the data connections that ended."""

    peers_lost = 0

    def lose_peer(self) -> None:
        self.peers_lost += 1


class FakeReader(Recorder):
    """A reader; `fetch` holds the blobs that `stream` gives one by one, or the error in their place."""

    async def stream(self, ids: Sequence[bytes]) -> AsyncIterator[bytes]:
        self.asked.append(("fetch", list(ids)))
        for blob in self.answers["fetch"] if isinstance(self.answers["fetch"], list) else [self.answers["fetch"]]:
            await trio.lowlevel.checkpoint()
            if isinstance(blob, Exception):
                raise blob
            yield blob


class Desk(Recorder):
    """Sessions or readers: one of them exists and belongs to OWNER."""

    def __init__(self, known: str, item: Recorder, asked: list[tuple[Any, ...]], answers: Mapping[str, Any]) -> None:
        super().__init__(asked, answers)
        self.known = known
        self.item = item
        self.lost = False

    def get(self, name: str, auth_id: str) -> Recorder:
        if name != self.known or auth_id != OWNER or self.lost:
            raise SessionLost("the session is not known")
        return self.item


class FakeTasks(Recorder):
    """One task, of OWNER, with a log of three lines."""

    async def get(self, upid: str) -> TaskView:
        await trio.lowlevel.checkpoint()
        if upid != UPID:
            raise NotFoundError(f"no task {upid[:200]}", hint="see: ironcore-backup task list")
        return sample(TaskView)

    async def record(self, upid: str) -> None:
        """Nothing that could be repeated."""
        self.asked.append(("record", upid))
        await trio.lowlevel.checkpoint()

    async def log(self, upid: str, *, first: int = 0, follow: bool = False) -> AsyncIterator[TaskLogLine]:
        self.asked.append(("log", upid, first, follow))
        for number in range(first, 3):
            await trio.lowlevel.checkpoint()
            yield TaskLogLine(n=number, time="2026-11-22T19:00:00Z", level="info", text=f"line {number}")


class FakeHosts(Recorder):
    """One host; AGENT is its agent, with the task UPID."""

    def list(self) -> list[HostView]:
        self.asked.append(("host_list",))
        return [sample(HostView)]

    def get(self, name: str) -> HostView:
        self.asked.append(("host_get", name))
        return sample(HostView, name=name)

    async def poll(self, auth_id: str, peer: str, poll: AgentPoll, stopping: trio.Event) -> AgentOrders:
        await trio.lowlevel.checkpoint()
        _only_agent(auth_id)
        self.asked.append(("poll", peer, poll, stopping.is_set()))
        return AgentOrders(stop=[UPID])

    async def attach(self, desk: Any, auth_id: str, upid: str, request: SessionOpen) -> SessionOpened:
        await trio.lowlevel.checkpoint()
        _only_agent(auth_id)
        self.asked.append(("attach", desk, upid, request))
        return sample(SessionOpened)

    async def report(self, auth_id: str, upid: str, report: StageReport) -> None:
        await trio.lowlevel.checkpoint()
        _only_agent(auth_id)
        self.asked.append(("agent_log", upid, report))

    def end(self, auth_id: str, upid: str, end: AgentEnd) -> None:
        _only_agent(auth_id)
        self.asked.append(("end", upid, end))


def _only_agent(auth_id: str) -> None:
    if auth_id != AGENT:
        raise RefusedError(f"refused: {auth_id} is not the agent of a host")


class FakeCertificates(Recorder):
    """The server's certificate."""

    pins = ":".join(["ab"] * 32)
    prepared = ""

    def show(self) -> CertificateView:
        return sample(CertificateView)


class FakeLogins(Recorder):
    """Logins of people."""

    def log_out(self, auth_id: str) -> None:
        self.asked.append(("log_out", auth_id))


class FakeRoles(Recorder):
    """Roles and groups; explains anything."""

    def explain(self, *question: str) -> Explained:
        self.asked.append(("explain", *question))
        return sample(Explained)


@dataclass
class FakeContext:
    """See the module's docstring."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    access: FakeAccess = field(default_factory=FakeAccess)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(fault_injection=True, listen_host="127.0.0.1", listen_port=0)
    )
    endpoint: Endpoint = field(default_factory=Endpoint)
    api_stopping: trio.Event = field(default_factory=trio.Event)
    tls: ssl.SSLContext | None = None
    signer: str = "5e" * 32

    def __post_init__(self) -> None:
        async def commit(_name: str, auth_id: str, _request: Any) -> CommitResult:
            self.sessions.get(_name, auth_id)
            return sample(CommitResult)

        async def close(name: str, auth_id: str, _request: Any) -> None:
            self.readers.get(name, auth_id)

        snapshots = {
            "group_views": [sample(GroupView), sample(GroupView, owner="other@ibs!t")],
            "snapshot_views": [sample(SnapshotView), sample(SnapshotView, owner="other@ibs!t")],
            "snapshot_view": sample(SnapshotView),
        }
        store = SimpleNamespace(snapshots=Recorder(self.asked, snapshots))
        views = [sample(DatastoreView, name="main"), sample(DatastoreView, name="other")]
        stores = {"list": views, "create": views[0], "view": views[0], "detach": None, "get": store}
        stores |= {"stats": sample(DatastoreStats), "probe": sample(ProbeResult)}
        stores |= {"quarantine": views[0], "release": views[0], "adopt": views[0], "usage": [sample(UsageRow)]}
        self.datastores = Recorder(self.asked, stores)
        self.metrics = Recorder(self.asked, {"text": b"# nothing\n"})
        self.audit = FakeAudit()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"bundle"

        told = {"targets": [sample(TargetView)], "groups": [sample(GroupSpec)], "rules": [sample(RuleSpec)]}
        told |= dict.fromkeys(("target", "create", "update", "steer"), sample(TargetView))
        told |= {"set_group": sample(GroupSpec), "set_rule": sample(RuleSpec), "test": sample(TestResult)}
        told |= {"history": [sample(HistoryView)], "history_entry": sample(HistoryView)}
        told |= dict.fromkeys(("remove", "remove_group", "remove_rule"), None)
        self.notifications = Recorder(self.asked, told)
        self.sla = Recorder(self.asked, {"list": [sample(SlaView)], "set": sample(SlaView), "unset": None})
        register = dict.fromkeys(("register", "show", "retire"), sample(KeyView)) | {"list": [sample(KeyView)]}
        register |= {"export": sample(PublicKey), "remove": None, "unset_policy": None}
        self.keys = Recorder(self.asked, register | {"policies": [sample(KeyPolicy)], "set_policy": sample(KeyPolicy)})
        far = dict.fromkeys(("show", "create", "update"), sample(RemoteView)) | {"list": [sample(RemoteView)]}
        self.remotes = Recorder(self.asked, far | {"test": sample(RemoteTest), "remove": None})
        self.copying = Recorder(self.asked, {"pull": UPID})
        job = dict.fromkeys(("show", "create", "update"), sample(SyncJobView)) | {"list": [sample(SyncJobView)]}
        job |= {"start": UPID, "repair": UPID, "status": sample(SyncStatus), "remove": None}
        self.sync_jobs = Recorder(self.asked, job)
        self.support = Recorder(self.asked, {"start": UPID, "read": pieces()})
        self.upkeep = Recorder(self.asked, {"maintain": UPID, "reindex": UPID})
        life = {"change": sample(SnapshotView), "forget": sample(BinView), "bin_list": [sample(BinView)]}
        life |= {"bin_undo": "x", "bin_empty": sample(BinEmptied), "namespaces": [sample(NamespaceView)]}
        life |= {"create_namespace": sample(NamespaceView), "remove_namespace": sample(NamespaceRemoved)}
        life |= {"move_group": sample(GroupMoved), "lock": sample(SnapshotView)}
        life |= {"compliance": [sample(ComplianceView)], "set_compliance": sample(ComplianceView)}
        life |= {"set_owner": sample(GroupOwnerChanged), "clock": sample(ClockView), "confirm_clock": sample(ClockView)}
        self.lifecycle = Recorder(self.asked, life)
        schedule = sample(ScheduleView)
        self.jobs = Recorder(
            self.asked,
            {
                "list": [sample(JobView)],
                "show": sample(JobView),
                "create": sample(JobView),
                "update": sample(JobView),
                "remove": None,
                "run": [UPID],
                "calendar": [],
            },
        )
        self.plans = Recorder(self.asked, {"list": [schedule], "set": schedule, "unset": None})
        prune = {"retention": [sample(RetentionView)], "set_retention": sample(RetentionView), "clear_retention": None}
        self.pruning = Recorder(self.asked, prune | {"simulate": sample(PrunePlanView), "run": UPID})
        octets = {"base_index": b"index", "base_available": b"\1", "resumed_ids": b"", "base_chunk": b"blob"}
        session = octets | {"send_body": 2, "append": None, "close_archive": sample(ArchiveClosed)}
        session |= {"put_blob": None, "report": None, "abort": None, "suspect": None}
        self.session = FakeSession(self.asked, session)
        desk = {"open": sample(SessionOpened), "commit": commit}
        self.sessions = Desk(SESSION, self.session, self.asked, desk)
        self.reader = FakeReader(self.asked, {"file": b"content", "fetch": [b"one", b"two"]})
        self.readers = Desk(READER, self.reader, self.asked, {"open": sample(ReaderOpened), "close": close})
        self.tasks = FakeTasks(self.asked, {"list": [sample(TaskView)], "stop": None})
        people = {"users": [sample(UserView)], "create_user": sample(UserView), "tokens": [sample(TokenView)]}
        people |= {
            "create_token": sample(TokenCreated),
            "remove_token": None,
            "remove_user": None,
            "acl": [sample(AclEntry)],
        }
        people |= {"grant": sample(AclEntry), "revoke": None}
        people |= {"set_user": sample(UserView), "set_token": sample(TokenView)}
        self.identities = Recorder(self.asked, people)
        made = {"all": [sample(RoleView)], "create": sample(RoleView), "update": sample(RoleView), "remove": None}
        made |= {"groups": [sample(UserGroupView)], "create_group": sample(UserGroupView), "remove_group": None}
        made |= {"update_group": sample(UserGroupView)}
        login = sample(LoginView)
        own = {"log_in": sample(LoginGranted), "show": login, "set_password": login, "disable_totp": login}
        self.logins = FakeLogins(self.asked, own | {"enable_totp": sample(TotpMade)})
        shown = sample(CertificateView)
        realm = dict.fromkeys(("show", "create", "update", "test"), sample(RealmView)) | {"list": [sample(RealmView)]}
        self.realms = Recorder(self.asked, realm | {"remove": None})
        self.certificates = FakeCertificates(self.asked, {"renew": shown, "replace": shown, "withdraw": None})
        self.roles = FakeRoles(self.asked, made)
        hosts = {"invite": sample(HostInvited), "update": sample(HostView), "remove": None}
        self.hosts = FakeHosts(self.asked, hosts | {"join": sample(AgentJoined)})
        self.own = Recorder(
            self.asked,
            {
                "inbox": [sample(InboxView)],
                "worker_status": sample(WorkerView),
                "start_backup": UPID,
                "retry_task": UPID,
                "set_worker_slots": sample(WorkerView),
                "task_keeping": TaskKeeping(),
                "start_verify": UPID,
                "verify_status": [sample(VerifyReport)],
                "verify_outlook": [sample(VerifyOutlook)],
                "damage": sample(Damage),
                "start_cleanup": UPID,
                "start_gc": UPID,
                "undo_gc": UPID,
                "gc_status": [sample(GcStatus, store="main"), sample(GcStatus, store="other")],
                "steer_gc": sample(GcStatus),
            },
        )

    def __getattr__(self, name: str) -> Any:
        if name == "own":
            raise AttributeError(name)
        return getattr(self.own, name)

    def status(self) -> ServerStatus:
        return sample(ServerStatus, services=[sample(ServiceView)])

    def restart_service(self, role: str) -> None:
        self.asked.append(("restart_service", role))

    def inject_fault(self, role: str) -> None:
        self.asked.append(("inject_fault", role))


class FakeAudit:
    """An audit log that takes everything and keeps nothing."""

    async def admit(self) -> None: ...

    async def note(self, **_facts: Any) -> None: ...

    async def find(self, _wanted: Mapping[str, str], _limit: int) -> list[AuditView]:
        return [sample(AuditView)]

    async def show(self, _n: int) -> AuditView:
        return sample(AuditView)

    async def verify(self) -> AuditCheck:
        return sample(AuditCheck)

    async def export(self) -> AsyncIterator[bytes]:
        yield b"{}\n"


@dataclass(frozen=True)
class Certificates:
    """A server's context, and how a client reaches it."""

    server: ssl.SSLContext
    fingerprint: str

    @classmethod
    def make(cls, folder: Path, *planes: str) -> Certificates:
        made = tls.ensure_certificate(folder, "testnode")
        return cls(tls.server_context(made, [*planes, "http/1.1"]), made.fingerprint)

    @staticmethod
    def client(*alpn: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


@dataclass
class Served:
    """A running listener."""

    listener: Listener
    port: int
    fingerprint: str
    stop: trio.Event
    ended: trio.Event

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def http(self, credential: str = "", **options: Any) -> httpx.AsyncClient:
        """A client of the API; with `credential`, as that identity."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        context = Certificates.client()
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1", headers=headers, verify=context, trust_env=False, timeout=30, **options
        )

    @asynccontextmanager
    async def raw(self, *alpn: str) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
        """A TLS stream and nothing on it; closed without a word at the end of the block."""
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", self.port, ssl_context=Certificates.client(*alpn), https_compatible=True
        )
        try:
            await stream.do_handshake()
            yield stream
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def serving(
    app: Any, certificates: Certificates, *, grace_seconds: float = 10.0, **options: Any
) -> AsyncIterator[Served]:
    """A listener for the length of the block; cut off at its end if it has not stopped."""
    stop, ended = trio.Event(), trio.Event()
    listener = Listener(app, lambda: certificates.server, **options)

    async def run(task_status: trio.TaskStatus[Address]) -> None:
        await listener.serve(Address("127.0.0.1", 0), stop=stop, grace_seconds=grace_seconds, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(run)
        yield Served(listener, bound.port, certificates.fingerprint, stop, ended)
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.abc.ReceiveStream, bytes_max: int = 1 << 24) -> bytes:
    """Everything until the peer ends or resets."""
    got = bytearray()
    try:
        while len(got) < bytes_max and (piece := await stream.receive_some(1 << 16)):
            got += piece
    except trio.BrokenResourceError:
        pass
    return bytes(got)


def raw_request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    lines: Sequence[str] = (f"{method} {target} HTTP/1.1", "Host: test", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1") + body


def logged(records: Sequence[logging.LogRecord]) -> str:
    """The lines as they would stand in the log."""
    return "\n".join(json.dumps(getattr(record, "ibs", record.getMessage())) for record in records)
