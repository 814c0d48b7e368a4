"""The certificate while the server runs: replaced whole or not at all, and its end told in time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from ibs.core.events import Event, Severity
from ibs.errors import ConflictError, FailedError, UsageError
from ibs.runtime.clock import ManualClock, SystemClock
from ibs.runtime.pool import InlinePool
from ibs.security.tls import ensure_certificate, make
from ibs.services import certificates as module
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


async def test_the_next_one_is_told_kept_over_a_restart_and_served_on_its_day(tmp_path: Path) -> None:
    clock, events, told = ManualClock(), list[Event](), list[str]()
    certificates = await begin(tmp_path, clock, events)

    async def changed() -> None:
        told.append(certificates.pins)

    certificates.changed.append(changed)
    old = certificates.certificate.fingerprint
    assert (certificates.pins, certificates.prepared) == (old, "")
    view = await certificates.renew("root@ibs", 7 * 86_400)
    assert (view.fingerprint, certificates.certificate.fingerprint) == (old, old)
    assert view.next_fingerprint not in {"", old}
    assert certificates.pins == f"{old},{view.next_fingerprint}"
    assert told == [certificates.pins]
    assert certificates.prepared

    clock.advance(86_400)
    again = await begin(tmp_path, clock, events)
    assert again.pins == certificates.pins
    await again._serve_if_due()
    assert again.certificate.fingerprint == old
    clock.advance(6 * 86_400)
    context = again.context
    await again._serve_if_due()
    assert (again.pins, again.prepared) == (view.next_fingerprint, "")
    assert again.context is not context
    assert (await begin(tmp_path, clock, events)).pins == view.next_fingerprint
    assert [event.kind for event in events] == ["certificate.prepared", "certificate.replaced"]


async def test_one_that_was_prepared_is_what_renewing_serves(tmp_path: Path) -> None:
    clock, events = ManualClock(), list[Event]()
    certificates = await begin(tmp_path, clock, events)
    prepared = await certificates.replace("root@ibs", make("other", [], clock.now()).decode(), 3600)
    view = await certificates.renew("root@ibs")
    assert (view.fingerprint, view.next_fingerprint) == (prepared.next_fingerprint, "")
    assert (await certificates.renew("root@ibs")).fingerprint != view.fingerprint


async def test_it_can_be_withdrawn_or_prepared_anew(tmp_path: Path) -> None:
    clock, events = ManualClock(), list[Event]()
    certificates = await begin(tmp_path, clock, events)
    old = certificates.certificate.fingerprint
    with pytest.raises(ConflictError):
        await certificates.withdraw("root@ibs")
    first = await certificates.renew("root@ibs", 3600)
    second = await certificates.renew("root@ibs", 7200)
    assert first.next_fingerprint != second.next_fingerprint
    await certificates.withdraw("root@ibs")
    assert certificates.pins == old
    clock.advance(10_000)
    assert (await begin(tmp_path, clock, events)).pins == old
    with pytest.raises(UsageError, match="expires"):
        await certificates.renew("root@ibs", 5000 * 86_400)
    assert certificates.pins == old


async def test_one_that_cannot_be_served_any_more_is_told_and_the_present_one_stays(tmp_path: Path) -> None:
    clock, events = ManualClock(), list[Event]()
    certificates = await begin(tmp_path, clock, events)
    old = certificates.certificate.fingerprint
    await certificates.renew("root@ibs", 3600)
    clock.advance(4000 * 86_400)  # the server was off for years
    await certificates._serve_if_due()
    assert certificates.pins == old
    assert events[-1].kind == "certificate.not-served"
    (tmp_path / "tls.next.json").write_bytes(b"{")
    (tmp_path / "tls.next.json").chmod(0o600)
    again = await begin(tmp_path, clock, events)
    assert again.pins == old
    assert events[-1].kind == "certificate.not-served"


async def test_what_cannot_be_written_on_its_day_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, events = ManualClock(), list[Event]()
    certificates = await begin(tmp_path, clock, events)
    view = await certificates.renew("root@ibs", 3600)
    clock.advance(3601)

    def full(*_: object) -> None:
        raise FailedError("cannot write tls.pem: No space left on device", hint="make room")

    with monkeypatch.context() as patched:
        patched.setattr(module, "install", full)
        for _ in range(3):
            await certificates._serve_if_due()
    assert [event.kind for event in events] == ["certificate.prepared", "certificate.not-served"]
    assert certificates.pins.endswith(f",{view.next_fingerprint}")
    await certificates._serve_if_due()
    assert certificates.pins == view.next_fingerprint


async def test_its_day_comes_while_the_server_watches(tmp_path: Path, nursery: trio.Nursery) -> None:
    clock, events = SystemClock(), list[Event]()
    settings: Any = SimpleNamespace(state_dir=tmp_path, node="web01")
    certificate = ensure_certificate(tmp_path, "web01", now=clock.now())
    certificates = await Certificates.begin(
        certificate, settings, ["http/1.1"], pool=InlinePool(), clock=clock, publish=events.append
    )
    nursery.start_soon(certificates.watch)
    await trio.testing.wait_all_tasks_blocked()
    view = await certificates.renew("root@ibs", 0.001)
    with trio.fail_after(20):
        while certificates.pins != view.next_fingerprint:
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()
