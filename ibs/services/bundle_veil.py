"""Takes secrets, and on request names, out of texts for a support bundle. Pure; used by `services.bundle`.

Invariants: secrets go always; a name gets the same alias wherever it occurs in one bundle and another in the next;
each text is passed over once for names, so an alias is never taken for a name. What is not sure to be harmless goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

GONE: Final = "[secret removed]"
_KEY: Final = (
    r"[\w.-]*(?:secret|password|passwd|passphrase|token_key|private_key|api_key|credential|authorization)[\w.-]*"
)
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\\\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
_SECRETS: Final = (
    re.compile(r"(?<![A-Za-z0-9_-])(?![0-9a-f]{43})[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"),  # as API secrets are made
    re.compile(r"(?<![A-Za-z0-9+/=])(?=[A-Za-z0-9+/]*[A-Z+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])"),  # 32 bytes, base64
)
_KEPT_HEAD: Final = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[^\s\"',;]+"),
    re.compile(rf"(?i)(\"{_KEY}\"\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"|[^\s,\}}\]]+)"),
    re.compile(rf"(?i)(\b{_KEY}\s*[=:]\s*)(?!\")[^\s\"',;]+"),
    re.compile(r"(://[^/\s:@]*:)[^\s@/]+(?=@)"),
    re.compile(r"(![A-Za-z0-9._-]+:)(?![0-9A-F]{8}:)[^\s:\"',;]{8,}"),
)
_AUTH: Final = r"[A-Za-z0-9_.+-]+@[A-Za-z0-9_.-]+(?:![A-Za-z0-9_.-]+)?"
_PATTERNS: Final = (
    ("upid", r"UPID:[^\s\"']+"),
    ("snapshot", r"\b(?:vm|ct|host)/[A-Za-z0-9_.-]+(?:/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?(?![A-Za-z0-9_./-])"),
    ("user", _AUTH),
    (
        "address",
        r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:.])(?=[0-9A-Fa-f:]*::|(?:[0-9A-Fa-f]+:){7})[0-9A-Fa-f:]{3,39}(?![\w:])",
    ),
    ("path", r"(?<![\w.<])/[^\"\n:,;|(]*[^\"\n:,;|(\s]|[^\s\"',;:=(]+/[^\s\"',;:)]+"),
)


def without_keys(text: str) -> str:
    """`text`, many lines of it, without private keys in PEM, whole or cut off."""
    return _PRIVATE_KEY.sub(f"{GONE}\n", text)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """`text` without what is or looks like a secret; `known` are secrets by their letters."""
    for secret in known:
        if secret:
            text = text.replace(secret, GONE)
    for pattern in _KEPT_HEAD:
        text = pattern.sub(rf"\g<1>{GONE}", text)
    for pattern in _SECRETS:
        text = pattern.sub(GONE, text)
    return text


class Veil:
    """The aliases of one bundle. `learn` all names before the first text."""

    def __init__(self, *, names: bool, secrets: Iterable[str] = ()) -> None:
        self._names = names
        self._secrets = sorted({one for one in secrets if len(one) > 7}, key=len, reverse=True)
        self._kinds: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, kind: str, *names: str) -> None:
        """These words are names of that kind, such as host or namespace."""
        for name in names:
            if name and not name.isdecimal():
                self._kinds.setdefault(name, kind)
        self._pattern = None

    def text(self, text: str) -> str:
        """`text` as it may be shown."""
        text = without_secrets(text, self._secrets)
        if not self._names:
            return text
        if self._pattern is None:
            words = "|".join(map(re.escape, sorted(self._kinds, key=len, reverse=True))) or "(?!)"
            parts = [f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS]
            self._pattern = re.compile("|".join([*parts, rf"(?P<word>(?<![\w-])(?:{words})(?![\w-]))"]))
        return self._pattern.sub(self._hidden, text)

    def _hidden(self, found: re.Match[str]) -> str:
        text, kind = found.group(), found.lastgroup or "word"
        special: dict[str, Callable[[str], str]] = {"upid": self._upid, "snapshot": self._snapshot}
        if kind in special:
            return special[kind](text)
        if text == "/" or text.startswith("/api/v1"):
            return text if text == "/" else "/api/v1/…"
        return self._alias(self._kinds.get(text, "name") if kind == "word" else kind, text)

    def _upid(self, text: str) -> str:
        parts = text.split(":")
        for at, kind in ((1, "host"), (7, "subject"), (8, "user")):
            if len(parts) > at and parts[at]:
                parts[at] = self._alias(kind, parts[at])
        return ":".join(parts)

    def _snapshot(self, text: str) -> str:
        kind, _, rest = text.partition("/")
        name, slash, time = rest.partition("/")
        return f"{kind}/{self._alias('host', name)}{slash}{time}"

    def _alias(self, kind: str, text: str) -> str:
        known = self._aliases.get(text)
        if known is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            known = self._aliases[text] = f"{kind}-{self._counts[kind]}"
        return known
