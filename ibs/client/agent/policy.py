"""What this host lets a server have: paths that may be backed up, hooks that may be run. The host's word, not its own.

Used by `client.agent.job` and `cli`. `agent.toml` belongs to whoever runs the agent and is read anew for each task, so
a change holds from the next one on. Invariant: without a line that allows it nothing leaves the host; paths are
compared after every link in them was followed, so that a link below an allowed folder leads nowhere else.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from ibs.core import limits
from ibs.core.names import check_name, parse_source
from ibs.errors import RefusedError, SourceUnreadable, UsageError
from ibs.runtime import settings
from ibs.wire.system import BackupRun


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of agent.toml."""

    allow_all: bool = False
    paths: list[str] = []
    hooks: list[str] = []
    hooks_dir: str = ""
    keyfile: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """`source` is the file it was read from. Hooks are names in `hooks_dir`. `keyfile` "" is none."""

    source: Path
    allow_all: bool = False
    paths: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    hooks_dir: Path = Path("/nonexistent")
    keyfile: str = ""

    def allow(self, run: BackupRun) -> tuple[tuple[str, str], ...]:
        """The archives of `run` with their real paths, if the host lets the server have all of them.

        Blocks. Raises RefusedError naming the first that it does not, SourceUnreadable.
        """
        found = []
        for source in run.sources:
            archive, path = parse_source(source)
            found.append((archive, self._allowed(path)))
        for hook in (run.pre_hook, run.post_hook):
            if hook:
                self.hook(hook)
        return tuple(found)

    def hook(self, name: str) -> Path:
        """The program of that hook. Raises RefusedError, UsageError."""
        check_name(name, "hook")
        if name not in self.hooks:
            raise RefusedError(
                f"refused by this host: hook {name} is not among those it runs",
                hint=f'on the host, put it into {self.hooks_dir} and add hooks = ["{name}"] to {self.source}',
            )
        path = self.hooks_dir / name
        _require_ours(path, "hook")
        if not os.access(path, os.X_OK):
            raise RefusedError(f"refused by this host: hook {path} cannot be run", hint=f"chmod 755 {path}")
        return path

    def _allowed(self, path: str) -> str:
        try:
            real = os.path.realpath(path, strict=True)
        except (OSError, ValueError) as error:
            if not self.allow_all:  # what is there and what is not, is nobody's business who may not have it
                raise self._refused(path) from error
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SourceUnreadable(f"source {path} cannot be read: {why}", hint="check the path") from error
        if self.allow_all or any(_below(real, allowed) for allowed in self.paths):
            return real
        raise self._refused(path)

    def _refused(self, path: str) -> RefusedError:
        return RefusedError(
            f"refused by this host: {path} is not among the paths that may be backed up",
            hint=f'on the host, add it to {self.source}: paths = ["{path}"]; or start the agent with --allow-all',
        )


def policy_file(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """By option, IBS_AGENT_CONFIG, or /etc/ironcore-backup/agent.toml for root, else the XDG config folder."""
    if given is not None:
        return given
    if named := environment.get("IBS_AGENT_CONFIG"):
        return Path(named)
    folder = Path("/etc") / settings.APP if os.geteuid() == 0 else Path(platformdirs.user_config_dir(settings.APP))
    return folder / "agent.toml"


def load_policy(path: Path, *, allow_all: bool = False) -> Policy:
    """The policy in `path`; one that allows nothing when there is none. Blocks.

    Raises UsageError for a file that is wrong, RefusedError for one that others may change.
    """
    hooks_dir = path.parent / "hooks.d"
    if not path.exists():
        return Policy(path, allow_all=allow_all, hooks_dir=hooks_dir)
    _require_ours(path, "agent configuration")
    try:
        raw = path.read_bytes()
        if len(raw) > limits.AGENT_CONFIG_BYTES_MAX:
            raise UsageError(f"agent configuration {path} is too large")
        file = msgspec.convert(tomllib.loads(raw.decode()), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        known = ", ".join(_File.__struct_fields__)
        raise UsageError(f"agent configuration {path} is not valid: {error}", hint=f"known keys: {known}") from error
    for allowed in (*file.paths, *([file.keyfile] if file.keyfile else [])):
        if not allowed.startswith("/"):
            raise UsageError(f"agent configuration {path}: {allowed!r} is not an absolute path")
    return Policy(
        path,
        allow_all=allow_all or file.allow_all,
        paths=tuple(os.path.realpath(allowed) for allowed in file.paths),
        hooks=tuple(check_name(hook, "hook") for hook in file.hooks),
        hooks_dir=Path(file.hooks_dir) if file.hooks_dir else hooks_dir,
        keyfile=file.keyfile,
    )


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _require_ours(path: Path, what: str) -> None:
    """Raises RefusedError when somebody else could have written it, UsageError when it is not there."""
    try:
        facts = path.stat()
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}", hint="check the path") from error
    if facts.st_uid not in (0, os.geteuid()) or stat.S_IMODE(facts.st_mode) & 0o022:
        raise RefusedError(f"{what} {path} may be changed by others", hint=f"run: chown root {path}; chmod go-w {path}")
