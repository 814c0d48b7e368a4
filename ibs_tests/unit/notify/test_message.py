"""What messages say."""

from __future__ import annotations

import json

import pytest

from ibs.errors import UsageError
from ibs.notify import message
from ibs.notify.message import influx_log

EVIL = 'a "quote", a\nline\r\nBcc: x@example.com <b>'


def event(text: str = "main went offline", severity: str = "error") -> dict[str, object]:
    return {
        "time": "2026-11-23T05:00:00Z",
        "source": "datastore",
        "severity": severity,
        "kind": "datastore.offline",
        "text": text,
        "fields": {"datastore": "main"},
    }


def test_subject_is_one_line_and_names_the_worst() -> None:
    line = message.subject([event(EVIL, "warning"), event("x", "critical")], "node")
    assert line.startswith("[node] critical: 2 events")
    assert line.isprintable()


def test_html_is_escaped() -> None:
    assert "<b>" not in message.hypertext([event(EVIL)], "<b>")
    assert "datastore: main" in message.plain([event()], "node")


def test_a_template_stays_json_whatever_an_event_says() -> None:
    template = '{"t": "$text", "n": $count, "all": $events, "price": "$$5"}'
    message.check_template(template)
    made = json.loads(message.body([event(EVIL)], "node", template))
    assert (made["n"], made["price"], made["all"][0]["text"]) == (1, "$5", EVIL)
    assert json.loads(message.body([event(EVIL)], "node"))["severity"] == "error"


@pytest.mark.parametrize("template", ["$secret", "${", "$text $", "${text.__class__}"])
def test_templates_name_only_what_there_is(template: str) -> None:
    with pytest.raises(UsageError):
        message.check_template(template)


def test_line_protocol_has_a_line_an_event() -> None:
    lines = message.influx([event(EVIL), event()], "my node").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("ibs_event,server=my\\ node,source=datastore,severity=error,kind=datastore.offline ")
    assert '\\"quote\\"' in lines[0]


def test_a_log_line_as_line_protocol() -> None:
    line = {"time": "t", "role": "gc", "level": "info", "event": 'a "b"\nc \\', "upid": "", "n": 1, "path": "/a b"}
    assert influx_log(line, "node 1", 5) == (
        'ibs_log,server=node\\ 1,role=gc,level=info event="a \\"b\\" c \\\\",'
        'fields="{\\"n\\": 1, \\"path\\": \\"/a b\\"}" 5\n'
    )
    assert influx_log({"role": "gc", "level": "info", "event": "x"}, "n", 5) == (
        'ibs_log,server=n,role=gc,level=info event="x" 5\n'
    )
