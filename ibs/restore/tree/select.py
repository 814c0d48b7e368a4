"""Which entries of an archive are asked for: globs relative to the archive's root.

Used by the planner and by `client.restore`. The rules: `*`, `?` and `[…]` stay within one name, `**` crosses folders, a
leading or trailing slash means nothing, and a pattern that matches a folder takes everything below it. So `etc/ssh`
is that folder whole, `**/*.conf` every such file, `home/*/.ssh/**` what is in these folders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from pathspec import PathSpec

from ibs.errors import UsageError

_MAGIC: Final = frozenset("*?[\\")


class Selection:
    """A set of patterns; without any, everything is selected. Paths are bytes relative to the archive's root."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """Raises UsageError for a pattern that cannot be read."""
        self.patterns = tuple(patterns)
        self.matched: set[int] = set()
        """Numbers of the patterns that selected something so far."""
        anchored = []
        for pattern in self.patterns:
            inner = pattern.strip("/")
            if not inner or "\0" in inner or any(part in (".", "..") for part in inner.split("/")):
                raise UsageError(
                    f"pattern {pattern!r} is not valid",
                    hint="write it relative to the archive, like 'etc/*.conf'",
                )
            anchored.append("/" + inner)
        try:
            self._specs = [PathSpec.from_lines("gitignore", [each]) for each in anchored]
        except ValueError as error:
            raise UsageError(f"a pattern of {self.patterns} is not valid: {error}") from error

    @property
    def everything(self) -> bool:
        return not self.patterns

    def __call__(self, path: bytes) -> bool:
        """Whether the entry at `path` is selected."""
        if not self._specs:
            return True
        text = os.fsdecode(path)
        return any(spec.match_file(text) for spec in self._specs)

    def note(self, path: bytes) -> bool:
        """The same, remembering which patterns were met."""
        if not self._specs:
            return True
        text = os.fsdecode(path)
        hits = [number for number, spec in enumerate(self._specs) if spec.match_file(text)]
        self.matched.update(hits)
        return bool(hits)

    def unmatched(self) -> list[str]:
        """Patterns that selected nothing."""
        return [pattern for number, pattern in enumerate(self.patterns) if number not in self.matched]

    def common_folder(self) -> bytes:
        """The deepest folder or entry that everything selected lies at or below, without looking at the archive."""
        if not self.patterns:
            return b""
        ways = [self._literal(pattern.strip("/")) for pattern in self.patterns]
        shared = ways[0]
        for way in ways[1:]:
            same = [a == b for a, b in zip(shared, way, strict=False)]
            shared = shared[: same.index(False) if False in same else len(same)]
        return os.fsencode("/".join(shared))

    @staticmethod
    def _literal(pattern: str) -> list[str]:
        """The leading names of a pattern that hold no magic (nor anything gitignore syntax would strip)."""
        names = []
        for name in pattern.split("/"):
            if _MAGIC & set(name) or name != name.strip():
                break
            names.append(name)
        return names
