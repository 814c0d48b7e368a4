"""Bodies of the notification routes: targets, groups, rules, history. A secret goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits_notify
from ibs.wire.common import Wire


class TargetSpec(Wire, frozen=True, kw_only=True):
    """Where messages go. `kind` smtp, webhook, metric or pushgateway; a target uses the fields of its kind.

    A push gateway gets figures only, no events.
    """

    kind: str
    url: str = ""
    """Of webhook, metric (InfluxDB's write address, with its query) and pushgateway (without its `/metrics`); http or
    https, without credentials.
    """
    host: str = ""
    port: int = 0
    tls: str = "starttls"
    """Of smtp: starttls, implicit or none."""
    username: str = ""
    sender: str = ""
    recipients: list[str] = []
    template: str = ""
    """Of webhook: the body, with $text, $severity, $source, $kind, $time, $server, $count and $events."""
    ca: str = ""
    """PEM certificates that count instead of the system's; empty for those."""
    fingerprint: str = ""
    """SHA-256 of the one certificate that is accepted, in place of any authority; "" for none."""
    digest_seconds: Annotated[int, msgspec.Meta(ge=0, le=limits_notify.DIGEST_SECONDS_MAX)] = 0
    """What is milder than an error waits so long for more, and goes as one message; 0: nothing waits."""
    attempts_max: int = 8
    figures_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0
    """Of metric and pushgateway: all figures of the server every so often; 0: never."""
    logs: str = ""
    """Of metric: log lines of this level and worse; "" for none."""
    retry_seconds: float = 10.0
    """Before the second attempt; doubled before each further one."""
    comment: str = ""


class TargetSecrets(Wire, frozen=True, kw_only=True):
    """What is sealed: password, signing key or token; and extra headers, which may hold credentials too."""

    secret: str = ""
    headers: dict[str, str] = {}


class TargetSet(Wire, frozen=True, kw_only=True):
    """`secrets` None keeps what a target has; otherwise `keep_secret` or `keep_headers` keep that half of it."""

    name: str
    spec: TargetSpec
    secrets: TargetSecrets | None = None
    keep_secret: bool = False
    keep_headers: bool = False


class TestRequest(Wire, frozen=True, kw_only=True):
    """`recipient` replaces an smtp target's own for this message."""

    __test__ = False
    recipient: str = ""


class TestResult(Wire, frozen=True, kw_only=True):
    """How a test message went."""

    __test__ = False
    time: str
    ok: bool
    message: str
    recipient: str = ""
    history: int = 0


class TargetView(Wire, frozen=True, kw_only=True):
    """`waiting`: messages that are still to be sent; `headers`: names only."""

    name: str
    spec: TargetSpec
    enabled: bool
    disabled_why: str = ""
    failures: int = 0
    waiting: int = 0
    has_secret: bool = False
    headers: list[str] = []
    test: TestResult | None = None


class GroupSpec(Wire, frozen=True, kw_only=True):
    name: str
    targets: list[str]


class RuleSpec(Wire, frozen=True, kw_only=True):
    """Which events go where; an empty word matches everything, `kind` is a shell pattern.

    `windows`: only what happens at these times of day, such as `22:00-06:00`, in `time_zone`; without any, always.
    """

    name: str
    sources: list[str] = []
    severity: str = "warning"
    kind: str = ""
    datastore: str = ""
    namespace: str = ""
    job: str = ""
    host: str = ""
    targets: list[str] = []
    groups: list[str] = []
    windows: list[str] = []
    time_zone: str = "UTC"


class HistoryView(Wire, frozen=True, kw_only=True):
    """One event on its way to one target.

    `payload` is what was last sent, without what is beyond the cap of the history; `payload_chars` its full length.
    `command` repeats it in a shell; "" for mail, and for a message that is not kept whole.
    """

    id: int
    time: str
    target: str
    state: str
    attempts: int
    text: str
    error: str = ""
    payload: str = ""
    payload_chars: int = 0
    command: str = ""
