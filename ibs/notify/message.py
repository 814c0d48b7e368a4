"""What a message says, whatever carries it. Pure; used by the senders and `services`.

Several events that waited for one target are one message. Events are JSON as `core.events.Event.to_json` makes them.
"""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from ibs.core.events import Severity
from ibs.errors import UsageError

EventJson = Mapping[str, Any]
_NAMES = frozenset({"text", "severity", "source", "kind", "time", "server", "count", "events"})


@dataclass(frozen=True, slots=True)
class Sent:
    """What went out: `payload` without secrets, `command` that sends a payload, with variables in place of secrets."""

    payload: str
    command: str = ""
    refused: str = ""
    """Recipients that the mail server will never take, and its words; the others got the message."""

    @property
    def line(self) -> str:
        """Repeats it in a shell; "" when it cannot be."""
        return f"{self.command} --data-raw {shlex.quote(self.payload)}" if self.command else ""


def worst(events: Sequence[EventJson]) -> str:
    """The gravest severity."""
    return str(max((Severity(one["severity"]) for one in events), key=lambda severity: severity.rank))


def subject(events: Sequence[EventJson], server: str) -> str:
    """One line, without control characters."""
    text = str(events[0]["text"]) if len(events) == 1 else f"{len(events)} events, the first: {events[0]['text']}"
    line = f"[{server}] {worst(events)}: {text}"
    return "".join(char if char.isprintable() else " " for char in line)[:200]


def plain(events: Sequence[EventJson], server: str) -> str:
    """For people, as text."""
    lines = [f"{len(events)} event{'s' if len(events) > 1 else ''} on {server}", ""]
    for one in events:
        lines.append(f"{one['time']}  {one['severity']}  {one['source']}  {one['kind']}")
        lines.append(f"    {one['text']}")
        lines += [f"    {name}: {value}" for name, value in one["fields"].items()]
    return "\n".join(lines) + "\n"


def hypertext(events: Sequence[EventJson], server: str) -> str:
    """For people, as a table."""
    words = ("time", "severity", "source", "text")
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(str(one[w]))}</td>" for w in words) + "</tr>" for one in events)
    return f"<html><body><h3>{html.escape(server)}</h3><table border='1'>{rows}</table></body></html>\n"


def check_template(template: str) -> None:
    """Raises UsageError for one that names what there is not."""
    made = Template(template)
    if not made.is_valid() or not set(made.get_identifiers()) <= _NAMES:
        known = ", ".join(f"${name}" for name in sorted(_NAMES))
        raise UsageError("the template is not valid", hint=f"it may hold {known}; write $$ for a dollar sign")


def body(events: Sequence[EventJson], server: str, template: str = "") -> str:
    """The JSON of a webhook, or `template` filled in; its words are escaped so that they fit inside a JSON string."""
    first = events[0]
    if not template:
        whole = {"server": server, "severity": worst(events), "text": subject(events, server), "events": list(events)}
        return json.dumps(whole)
    words = {name: _inside(first[name]) for name in ("source", "kind", "time")}
    words |= {"text": _inside(subject(events, server)), "severity": worst(events), "server": _inside(server)}
    words |= {"count": str(len(events)), "events": json.dumps(list(events))}
    return Template(template).substitute(words)


def influx(events: Sequence[EventJson], server: str) -> str:
    """InfluxDB line protocol: one line an event, in the order they happened; the receiver stamps the time."""
    lines = []
    for one in events:
        tags = f"server={_tag(server)},source={_tag(one['source'])},severity={_tag(one['severity'])}"
        lines.append(f'ibs_event,{tags},kind={_tag(one["kind"])} count=1i,text="{_field(one["text"])}"')
    return "\n".join(lines) + "\n"


_HEAD = ("time", "role", "level", "event")


def influx_log(line: Mapping[str, Any], server: str, time_ns: int) -> str:
    """A line of the server's log in the line protocol: tags for role and level, the rest as fields."""
    tags = f"server={_tag(server)},role={_tag(line.get('role', ''))},level={_tag(line.get('level', ''))}"
    rest = {str(name): value for name, value in line.items() if name not in _HEAD and value not in ("", None)}
    fields = f'event="{_field(line.get("event", ""))}"'
    if rest:
        fields += f',fields="{_field(json.dumps(rest, default=str))}"'
    return f"ibs_log,{tags} {fields} {time_ns}\n"


def _field(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return text.replace("\n", " ").replace("\r", " ")


def _tag(value: object) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(value)).replace("\\", "/") or "none"
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _inside(value: object) -> str:
    return json.dumps(str(value))[1:-1]
