"""The certificate while the server runs: replaced whole or not at all, and its end told in time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ibs.core.events import Event, Severity
from ibs.errors import UsageError
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import InlinePool
from ibs.security.tls import ensure_certificate, make
from ibs.services.certificates import Certificates


async def begin(state: Path, clock: ManualClock, events: list[Event]) -> Certificates:
    settings: Any = SimpleNamespace(state_dir=state, node="web01")
    certificate = ensure_certificate(state, "web01", ["backup.example"], now=clock.now())
    publish = events.append
    return await Certificates.begin(
        certificate, settings, ["http/1.1"], pool=InlinePool(), clock=clock, publish=publish
    )


async def test_a_new_one_is_served_kept_and_told(tmp_path: Path) -> None:
    clock, events, told = ManualClock(), list[Event](), list[str]()
    certificates = await begin(tmp_path, clock, events)

    async def changed() -> None:
        told.append(certificates.certificate.fingerprint)

    certificates.changed.append(changed)
    before, context = certificates.show(), certificates.context
    after = await certificates.renew("root@ibs")
    assert after.fingerprint != before.fingerprint
    assert after.names == before.names
    assert certificates.context is not context
    assert told == [after.fingerprint]
    assert ensure_certificate(tmp_path, "web01").fingerprint == after.fingerprint
    (event,) = events
    assert event.kind == "certificate.replaced"
    assert before.fingerprint in event.text
    assert after.fingerprint in event.text
    third = await certificates.replace("root@ibs", make("other", [], clock.now()).decode())
    assert third.subject == "CN=other"
    with pytest.raises(UsageError):
        await certificates.replace("root@ibs", "nonsense \ud800")
    assert certificates.show() == third


async def test_its_end_is_told_once_a_step(tmp_path: Path) -> None:
    clock, events = ManualClock(), list[Event]()
    certificates = await begin(tmp_path, clock, events)
    left = (certificates.certificate.expires - clock.now()).total_seconds()
    told = []
    for days in (40, 31, 29.5, 29, 8, 6.5, 6, 0.9, 0.5, -0.1, -5):
        clock.advance(left - days * 86400)
        left = days * 86400
        certificates.check()
        certificates.check()
        told += [(days, event.severity) for event in events]
        events.clear()
    warning, error = Severity.WARNING, Severity.ERROR
    assert told == [(29.5, warning), (6.5, error), (0.9, error), (-0.1, error)]
    await certificates.renew("root@ibs")
    events.clear()
    certificates.check()
    assert events == []
    assert certificates.certificate.expires - clock.now() > timedelta(days=3000)
