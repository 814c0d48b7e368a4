"""What is left out of a tree: `--exclude` patterns and `.ibsexclude` files, both in gitignore syntax.

The syntax is `pathspec`'s. As in git, the last matching pattern of a list decides, deeper files win over
shallower ones, the command line wins over all, and what lies in an excluded folder is not looked at.
Each list remembers which of its patterns ever matched, because one that never did is worth a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from ibs.errors import UsageError

EXCLUDE_FILE = b".ibsexclude"
EXCLUDE_FILE_BYTES_MAX = 1 << 20
COMMAND_LINE = "--exclude"
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")


class RuleList:
    """One list of patterns, relative to the folder `base` (b"" or b"a/b/"). Not thread-safe."""

    def __init__(
        self,
        lines: Sequence[str],
        *,
        base: bytes = b"",
        origin: str = COMMAND_LINE,
        invalid: Callable[[str], None] | None = None,
    ) -> None:
        """`invalid` hears of each line that is not gitignore syntax; without it such a line raises UsageError."""
        self.origin = origin
        self.base = base
        self._base_chars = len(os.fsdecode(base))
        self._texts: list[str] = []
        self._patterns: list[GitIgnoreSpecPattern] = []
        for line in lines:
            pattern = _parse(line)
            if pattern is not None:
                self._texts.append(line.rstrip("\n"))
                self._patterns.append(pattern)
            elif line.strip() and not line.startswith("#"):
                subject = f"{origin} {line!r}"
                if invalid is None:
                    raise UsageError(f"{subject} is not a valid pattern", hint="patterns are written as in .gitignore")
                invalid(subject)
        self._spec = GitIgnoreSpec(self._patterns)
        self._unused = set(range(len(self._patterns)))
        self._prefilter = _any_of(self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def verdict(self, text: str) -> bool | None:
        """True: leave it out; False: keep it; None: this list says nothing. `text` ends with a slash for a folder."""
        if self._base_chars:
            text = text[self._base_chars :]
        if self._prefilter is not None and self._prefilter.match(text) is None:
            return None
        for number in tuple(self._unused):
            if self._patterns[number].match_file(text) is not None:
                self._unused.discard(number)
        return self._spec.check_file(text).include

    def unused(self) -> Iterator[str]:
        """Patterns that matched nothing so far, as they were written."""
        return (self._texts[number] for number in sorted(self._unused))


def _parse(line: str) -> GitIgnoreSpecPattern | None:
    """The compiled pattern of one line; None for a comment, a blank line, and what is no pattern."""
    try:
        patterns = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        return None
    return next((found for found in patterns if found.include is not None and found.regex is not None), None)


def _any_of(patterns: Sequence[GitIgnoreSpecPattern]) -> re.Pattern[str] | None:
    """One expression that matches whatever any pattern matches: most files match none, and that must be cheap."""
    sources = [str(pattern.regex.pattern) for pattern in patterns if pattern.regex is not None]
    try:
        return re.compile("|".join(f"(?:{_NAMED_GROUP.sub('(?:', source)})" for source in sources))
    except re.error:
        return None  # only slower: every path is then asked pattern by pattern


class Rules:
    """All lists that hold in one folder, the strongest first. Immutable."""

    __slots__ = ("lists",)

    def __init__(self, lists: tuple[RuleList, ...] = ()) -> None:
        self.lists = lists

    def __bool__(self) -> bool:
        return bool(self.lists)

    def with_folder(self, rules: RuleList) -> Rules:
        """The rules below a folder that has an exclude file of its own."""
        command_line = tuple(known for known in self.lists if known.origin == COMMAND_LINE)
        folders = tuple(known for known in self.lists if known.origin != COMMAND_LINE)
        return Rules((*command_line, rules, *folders))

    def excluded(self, path: bytes, *, folder: bool) -> bool:
        """True when the entry at `path` (relative to the source) is to be left out."""
        text = os.fsdecode(path)
        if folder:
            text += "/"
        for rules in self.lists:
            verdict = rules.verdict(text)
            if verdict is not None:
                return verdict
        return False
