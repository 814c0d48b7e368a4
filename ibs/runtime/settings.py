"""What the server must know to start: options, then environment (`IBS_…`), then the TOML file, then defaults.

Used by `cli` (to make them) and `app`. Everything else is set through the API and kept in the catalog. Values are
checked here, whole, before anything is opened or changed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import platformdirs

from ibs.core import limits
from ibs.errors import UsageError

APP: Final = "ironcore-backup"
PORT_DEFAULT: Final = 8007
STDERR: Final = "-"
_LEVELS = ("debug", "info", "warning", "error")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9.-]*):(\d{1,5})")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Settings:
    """`log_dir` None sends logs to stderr. `listen_host` is an address or a name; `listen_port` 0 takes a free port.

    `metrics_groups`: metrics have a row for each backup group, not for each namespace only.
    """

    state_dir: Path
    log_dir: Path | None
    listen_host: str = "0.0.0.0"  # noqa: S104 - a backup server is there for other hosts; TLS and tokens guard it
    listen_port: int = PORT_DEFAULT
    log_level: str = "info"
    node: str = "localhost"
    worker_slots: int = limits.WORKER_SLOTS_DEFAULT
    fault_injection: bool = False
    metrics_groups: bool = False
    agent_grace_seconds: float = limits.AGENT_GRACE_SECONDS


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of server.toml."""

    state_dir: str | None = None
    log_dir: str | None = None
    listen: str | None = None
    log_level: str = "info"
    node: str | None = None
    worker_slots: int = limits.WORKER_SLOTS_DEFAULT
    fault_injection: bool = False
    metrics_groups: bool = False
    agent_grace_seconds: float = limits.AGENT_GRACE_SECONDS


def load_settings(
    *,
    config: Path | None = None,
    state_dir: Path | None = None,
    log_dir: Path | None = None,
    listen: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings from options (the arguments), environment, file and defaults. Raises UsageError."""
    file = _read_file(config or _path(environment.get("IBS_CONFIG")), root=os.geteuid() == 0)
    state = state_dir or _path(environment.get("IBS_STATE_DIR")) or _path(file.state_dir)
    logs = log_dir or _path(environment.get("IBS_LOG_DIR")) or _path(file.log_dir)
    host, port = parse_listen(listen or environment.get("IBS_LISTEN") or file.listen or f"0.0.0.0:{PORT_DEFAULT}")
    return Settings(
        state_dir=(state or default_state_dir()).absolute(),
        log_dir=_log_dir(logs, state),
        listen_host=host,
        listen_port=port,
        log_level=_one_of(file.log_level, _LEVELS, "log_level"),
        node=_node(file.node or os.uname().nodename.partition(".")[0]),
        worker_slots=_slots(file.worker_slots),
        fault_injection=file.fault_injection,
        metrics_groups=file.metrics_groups,
        agent_grace_seconds=_grace(file.agent_grace_seconds),
    )


def default_state_dir() -> Path:
    """/var/lib/ironcore-backup for root, else the user's XDG state folder."""
    return Path("/var/lib") / APP if os.geteuid() == 0 else Path(platformdirs.user_state_dir(APP))


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`; an empty host means every IPv4 address; IPv6 in brackets. Raises UsageError."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise UsageError(f"listen address {text!r} is not valid", hint="write HOST:PORT, for example 0.0.0.0:8007")
    return match[1].strip("[]") or "0.0.0.0", int(match[2])  # noqa: S104 - asked for by an empty host


def _log_dir(given: Path | None, state: Path | None) -> Path | None:
    """A state folder of its own takes its logs along, so that servers side by side do not share log files."""
    if given is not None:
        return None if str(given) == STDERR else given.absolute()
    if state is not None:
        return state.absolute() / "log"
    return Path("/var/log") / APP if os.geteuid() == 0 else default_state_dir() / "log"


def _read_file(config: Path | None, *, root: bool) -> _File:
    default = Path("/etc") / APP if root else Path(platformdirs.user_config_dir(APP))
    path = config or default / "server.toml"
    try:
        raw = path.read_text("utf-8")
    except FileNotFoundError as error:
        if config is None:
            return _File()
        raise UsageError(f"configuration file {path} does not exist", hint="check --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"configuration file {path} cannot be read: {error}", hint="check its owner and mode"
        ) from error
    try:
        return msgspec.convert(tomllib.loads(raw), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        known = ", ".join(_File.__struct_fields__)
        raise UsageError(f"configuration file {path} is not valid: {error}", hint=f"known keys: {known}") from error


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        raise UsageError(f"{what} {value!r} is not known", hint=f"use one of {', '.join(known)}")
    return value


def _slots(value: int) -> int:
    if not 1 <= value <= limits.WORKER_SLOTS_MAX:
        raise UsageError(f"worker_slots {value} is out of range", hint=f"use 1 to {limits.WORKER_SLOTS_MAX}")
    return value


def _grace(value: float) -> float:
    low, high = limits.AGENT_GRACE_SECONDS_MIN, limits.AGENT_GRACE_SECONDS_MAX
    if not low <= value <= high:
        raise UsageError(f"agent_grace_seconds {value:g} is out of range", hint=f"use {low:g} to {high:g}")
    return value


def _node(name: str) -> str:
    """The host's short name as task names (UPIDs) hold it."""
    cleaned = re.sub(r"[^A-Za-z0-9-]", "-", name).strip("-")[:63]
    return cleaned if _NODE.fullmatch(cleaned) else "localhost"
