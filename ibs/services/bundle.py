"""Support bundles: everything somebody far away needs to understand this server, in one file, without secrets.

Made by `app`, used through `ServerContext.support`. Making one is a task; what cannot be had is told in its place in
the bundle and never keeps the rest from it. Names are replaced by aliases unless the caller wants them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ibs.core import limits
from ibs.core.names import format_time
from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.log import redact
from ibs.services.bundle_archive import Member, stamped, write_bundle
from ibs.services.bundle_veil import Veil, without_keys
from ibs.services.upkeep import Spawn
from ibs.version import PRODUCT, VERSION
from ibs.wire.notification import TargetSpec
from ibs.wire.support import BundleRequest

if TYPE_CHECKING:
    from ibs.services.context import ServerContext

_FACTS = ("/proc/version", "/proc/meminfo", "/proc/mounts", "/proc/partitions", "/proc/loadavg", "/proc/uptime")
_CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_FREE_TEXT = ("comment", "notes")
Section = tuple[str, str, Callable[[], Awaitable[Any]]]


class Support:
    """One a server. `context` gives the running server, which is not yet there when this is made."""

    def __init__(self, context: Callable[[], ServerContext], *, spawn: Spawn) -> None:
        self._context = context
        self._spawn = spawn

    async def start(self, auth_id: str, request: BundleRequest) -> str:
        """Begin a bundle; the UPID of its task. Raises UsageError, NotFoundError for a task that is not there."""
        if len(request.tasks) > limits.BUNDLE_TASKS_MAX:
            raise UsageError(f"more than {limits.BUNDLE_TASKS_MAX} tasks", hint="name fewer")
        for upid in request.tasks:
            await self._context().tasks.get(upid)
        task = await self._context().tasks.start(TaskType.MAINTENANCE, "support-bundle", auth_id)
        self._spawn(lambda: task.run(partial(self._make, request)))
        return task.upid

    def _path(self, upid: str) -> Path:
        name = "-".join(upid.split(":")[1:6])
        return self._context().settings.state_dir / "support" / f"{name}.tar.zst"

    async def read(self, upid: str) -> AsyncIterator[bytes]:
        """The bundle that this task made, a piece at a time. Raises NotFoundError."""
        task, pool = await self._context().tasks.get(upid), self._context().pool
        path = self._path(task.upid)
        if task.id != "support-bundle" or not await pool.disk(path.exists):
            raise NotFoundError("there is no bundle of this task", hint="make one: ironcore-backup support-bundle")
        return self._pieces(path)

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        offset = 0
        while piece := await self._context().pool.disk(_piece, path, offset):
            offset += len(piece)
            yield piece

    async def _make(self, request: BundleRequest, task: Task) -> str:
        context = self._context()
        veil = Veil(names=request.redact, secrets=await context.pool.disk(_own_secrets, context.settings.state_dir))
        await self._learn(veil)
        members: list[Member] = []
        size = 0
        for name, what, collect in await self._sections(request):
            content = await self._lines(name, collect, veil)
            size += len(content)
            if size > limits.BUNDLE_BYTES_MAX:
                task.warn(f"{name} and what follows is left out: the bundle is full")
                break
            members.append(Member(name, what, content))
            task.log("info", f"{name}: {len(content)} bytes")
            task.progress(done_bytes=size, files=len(members))
        now = context.clock.now()
        names = "names are replaced by aliases" if request.redact else "names are as they are"
        head = [f"{PRODUCT} {VERSION}, support bundle of {format_time(now)}", f"Secrets are removed; {names}."]
        path, seconds = self._path(task.upid), int(now.timestamp())
        packed = await context.pool.disk(write_bundle, path, head, members, seconds)
        return f"support bundle of {len(members)} files, {packed} bytes"

    async def _learn(self, veil: Veil) -> None:
        """Names that stand alone in texts, where no form gives them away."""
        context = self._context()
        veil.learn("host", context.settings.node, os.uname().nodename, *(host.name for host in context.hosts.list()))
        veil.learn("host", *(remote.host for remote in await context.remotes.list()))
        for user in await context.identities.users():
            veil.learn("user", user.auth_id.partition("@")[0])
        for store in context.datastores.opened():
            for namespace in await store.snapshots.namespaces():
                veil.learn("namespace", str(namespace), *str(namespace).split("/"))
                veil.learn("host", *(group.backup_id for group in await store.snapshots.groups(namespace)))

    async def _sections(self, request: BundleRequest) -> Sequence[Section]:
        context = self._context()

        async def now(value: Any) -> Any:
            return value

        async def each(ask: Callable[[str], Awaitable[Any]]) -> list[Any]:
            return [await ask(view.name) for view in await context.datastores.list()]

        sections: list[Section] = [
            ("server.txt", "version, address, state of each role", lambda: now(context.status())),
            ("configuration.txt", "what the server was started with", lambda: now(_settings(context))),
            ("host.txt", "kernel, memory, disks, mounts, clock", lambda: context.pool.disk(_host_facts)),
            ("worker.txt", "slots, queue, who waits for what", context.worker_status),
            ("timetable.txt", "the server's own jobs", context.timetable),
            ("hosts.txt", "hosts with an agent", lambda: now(context.hosts.list())),
            ("tasks.txt", "the newest tasks", lambda: context.tasks.list(limit=limits.BUNDLE_ROWS)),
            ("datastores/list.txt", "datastores and their state", context.datastores.list),
            ("datastores/stats.txt", "their figures", lambda: each(context.datastores.stats)),
            ("datastores/probe.txt", "a probe of each", lambda: each(context.datastores.probe)),
            ("datastores/gc.txt", "garbage collections", lambda: context.gc_status("")),
            ("datastores/verify.txt", "verification of each snapshot", context.verify_status),
            ("access/users.txt", "users", context.identities.users),
            ("access/acl.txt", "rights", context.identities.acl),
            ("notifications.txt", "what was told to people", lambda: context.inbox(limits.BUNDLE_ROWS)),
            *_set_up_by_people(context),
            ("audit.txt", "the newest rows of the audit log", lambda: context.audit.find({}, limits.BUNDLE_ROWS)),
            ("audit-check.txt", "whether its chain is whole", context.audit.verify),
        ]
        failed = await context.tasks.list(state="FAILED", limit=limits.BUNDLE_FAILED_TASKS)
        for upid in dict.fromkeys([*request.tasks, *(one.upid for one in failed)]):
            name = "-".join(upid.split(":")[3:6])
            sections.append((f"tasks/{name}.log", "log of a task", partial(self._task_log, upid)))
        folder = context.settings.log_dir
        for path in await context.pool.disk(_logs, folder) if folder is not None else ():
            what = f"log of {path.name.partition('.')[0]}"
            sections.append((f"logs/{path.name}.txt", what, partial(context.pool.disk, _tail, path)))
        return sections

    async def _task_log(self, upid: str) -> list[str]:
        view = await self._context().tasks.get(upid)
        lines = [f"{upid} {view.type} {view.state} {view.message}"]
        async for line in self._context().tasks.log(upid):
            lines.append(f"{line.time} {line.level} {line.text}")
            if len(lines) > limits.BUNDLE_TASK_LINES:
                lines.append("further lines are left out")
                break
        return lines

    async def _lines(self, name: str, collect: Callable[[], Awaitable[Any]], veil: Veil) -> bytes:
        """What `collect` gives as lines with time and source, or why it gives nothing."""
        context = self._context()
        try:
            found = await collect()
        except (IbsError, OSError) as error:
            found = [f"not to be had: {error}"]
        time = format_time(context.clock.now())
        return await context.pool.cpu(_encoded, name.removesuffix(".txt"), time, found, veil)


def _set_up_by_people(context: ServerContext) -> Iterable[Section]:
    """Jobs, terms, targets, remotes; and how messages went. An address of a webhook can be a secret: it is left out."""

    async def targets() -> list[Any]:
        shown = ("kind", "tls", "attempts_max", "retry_seconds")
        return [
            msgspec.to_builtins(msgspec.structs.replace(view, spec=TargetSpec(kind=view.spec.kind)))
            | {"spec": {name: getattr(view.spec, name) for name in shown}}
            for view in await context.notifications.targets()
        ]

    return (
        ("notifications/targets.txt", "who is told, and how that goes", targets),
        ("notifications/rules.txt", "which of them is told what", context.notifications.rules),
        (
            "notifications/history.txt",
            "the newest deliveries, without what was sent",
            lambda: context.notifications.history("", limits.BUNDLE_ROWS),
        ),
        ("jobs.txt", "jobs, and how they went last", context.jobs.list),
        ("schedules.txt", "when datastores are looked after", lambda: context.plans.list(lambda _name: True)),
        ("sla.txt", "how the backups of each group stand", context.sla.list),
        ("remotes.txt", "other servers, and the last contact", context.remotes.list),
        ("keys.txt", "registered data keys: public halves", context.keys.list),
    )


def _encoded(source: str, time: str, found: Any, veil: Veil) -> bytes:
    items: Iterable[Any] = found if isinstance(found, list | tuple) else [found]
    text = without_keys("\n".join(item if isinstance(item, str) else _json(item) for item in items))
    # Line by line, so that the loop gets its turns between them.
    lines = [stamped(time, source, veil.text(line)) for line in text.splitlines()]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _json(item: Any) -> str:
    value = redact(msgspec.to_builtins(item, enc_hook=str))
    if isinstance(value, dict):
        value = {key: "[left out]" if key in _FREE_TEXT and held else held for key, held in value.items()}
    return msgspec.json.encode(value).decode()


def _settings(context: ServerContext) -> dict[str, str]:
    settings = context.settings
    return {name: str(getattr(settings, name)) for name in type(settings).__slots__}


def _host_facts() -> list[str]:
    lines = [f"python {platform.python_version()}", f"processors {os.cpu_count()}"]
    for name in (*_FACTS, _CLOCK, "/etc/os-release", "/proc/pressure/io", "/proc/pressure/memory"):
        try:
            content = Path(name).read_text("utf-8", "replace")[: limits.BUNDLE_FACT_CHARS]
        except OSError as error:
            content = f"not to be had: {error.strerror}"
        what = name.rpartition("/")[2]
        lines += [f"{what} {line}" for line in content.splitlines()]
    return lines


def _logs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.log*") if path.is_file() and not path.is_symlink())


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limits.BUNDLE_LOG_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return lines[1:] if size > limits.BUNDLE_LOG_BYTES else lines


def _own_secrets(state: Path) -> list[str]:
    try:
        return [(state / "root.token").read_text("utf-8", "replace").strip().rpartition(":")[2]]
    except OSError:
        return []


def _piece(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(limits.AUDIT_PIECE_BYTES)
