"""The outbox is emptied in order, ever later after failures, and never gives a message up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
import trio
from trio.testing import MockClock

from ibs.catalog.notifications import TargetRecord
from ibs.core import limits_notify
from ibs.core.events import Event, EventSource, Severity
from ibs.errors import FailedError
from ibs.notify.message import EventJson, Sent
from ibs.runtime.pool import ThreadPool
from ibs.security.secrets import load_secrets
from ibs.services.deliveries import PURPOSE, Carrier, Deliveries, trusting
from ibs.services.notify import Notify
from ibs.wire.notification import RuleSpec, TargetSecrets, TargetSpec
from ibs_tests.support.receivers import dripping
from ibs_tests.unit.services.conftest import House


class Receivers:
    """Takes messages for all targets; those in `ill` fail."""

    def __init__(self) -> None:
        self.ill: set[str] = set()
        self.refused: dict[str, str] = {}
        self.hang = False
        self.permanent = False
        self.got: list[tuple[str, list[str]]] = []
        self.tried: list[float] = []

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        return Sent("payload", "curl", refused=self.refused.get(target.name, ""))

    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        if self.hang:
            await trio.sleep_forever()
        if target.name in self.ill:
            self.tried.append(trio.current_time())
            raise FailedError("503", permanent=self.permanent)
        self.got.append((target.name, [str(one["text"]) for one in events]))
        return self.compose(target, events)

    def texts(self, name: str) -> list[str]:
        return [text for target, texts in self.got for text in texts if target == name]


async def furnish(house: House, receivers: Receivers, **words: int) -> Deliveries:
    for name in ("a", "b"):
        spec = TargetSpec(kind="webhook", retry_seconds=10.0, **({"attempts_max": 3} | words))  # type: ignore[arg-type]
        await house.catalog.notifications.add_target(TargetRecord(name=name, spec=spec, sealed=b""))
    deliveries = Deliveries(
        house.catalog.notifications, receivers, clock=house.clock, publish=house.publish, entropy=lambda _: b"\x80"
    )
    events = house.bus.subscribe("notify")
    house.add("notify", lambda seat: Notify(seat, events, deliveries, house.clock, deliveries))
    return deliveries


def tell(house: House, text: str, severity: Severity = Severity.ERROR) -> None:
    house.publish(Event(house.clock.now(), EventSource.SYSTEM, severity, "test.kind", text))


async def test_a_burst_comes_in_order_and_in_few_messages(house: House, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    await furnish(house, receivers)
    async with house.running():
        for number in range(50):
            tell(house, str(number))
        await trio.sleep(5)
    assert receivers.texts("a") == receivers.texts("b") == [str(number) for number in range(50)]


async def test_an_ill_target_is_tried_ever_later_then_disabled_and_loses_nothing(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    deliveries = await furnish(house, receivers)
    receivers.ill.add("a")
    async with house.running():
        tell(house, "one")
        await trio.sleep(600)
        tell(house, "two")
        await trio.sleep(60)
        first, second, third = receivers.tried
        assert 7 < second - first < 13 < third - second < 26
        assert not (await house.catalog.notifications.target("a")).enabled
        assert any("target a is disabled" in text for text in receivers.texts("b"))
        receivers.ill.clear()
        await house.catalog.notifications.steer("a", enabled=True)
        deliveries.wake()
        await trio.sleep(5)
    assert receivers.texts("a") == ["one", "two"]
    assert receivers.got[-1] == ("a", ["one", "two"]), "what waited is one message"


async def test_a_delivery_cut_off_by_a_crash_is_made_by_the_next_actor(house: House, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    await furnish(house, receivers)
    receivers.hang = True
    async with house.running():
        tell(house, "one")
        await trio.sleep(1)
        receivers.hang = False
        await house.kill("notify")
        await trio.sleep(5)
    assert receivers.texts("a") == ["one"]


class Odd(Receivers):
    """Target `a` cannot even compose its message."""

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        if target.name == "a":
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
        return super().compose(target, events)

    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        sent = self.compose(target, events)
        self.got.append((target.name, [str(one["text"]) for one in events]))
        return sent


async def test_a_message_that_cannot_be_composed_is_its_targets_trouble_alone(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Odd()
    await furnish(house, receivers)
    async with house.running():
        tell(house, "odd")
        await trio.sleep(1)
        found = {one.name: one.failures for one in await house.catalog.notifications.targets()}
    assert receivers.texts("b") == ["odd"]
    assert found["a"] >= 1


async def test_who_says_that_it_will_never_take_it_is_asked_three_times(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    await furnish(house, receivers, attempts_max=8)
    receivers.ill.add("a")
    receivers.permanent = True
    async with house.running():
        tell(house, "one")
        await trio.sleep(600)
        target = await house.catalog.notifications.target("a")
        assert (target.enabled, len(receivers.tried)) == (False, 3)
        assert await house.catalog.notifications.waiting("a") == 1, "it waits until somebody has looked"


async def test_what_is_mild_is_collected_and_an_error_takes_it_along(house: House, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    await furnish(house, receivers, digest_seconds=3600)
    async with house.running():
        for number in range(3):
            tell(house, str(number), Severity.WARNING)
            await trio.sleep(600)
        assert receivers.got == []
        await trio.sleep(1900)
        assert sorted(receivers.got) == [("a", ["0", "1", "2"]), ("b", ["0", "1", "2"])]
        tell(house, "mild", Severity.WARNING)
        await trio.sleep(60)
        tell(house, "bad")
        await trio.sleep(1)
    assert receivers.got[-1][1] == ["mild", "bad"]


async def test_mild_events_go_to_who_asked_for_them_and_not_into_the_inbox(
    house: House, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    await furnish(house, receivers)
    async with house.running():
        tell(house, "nobody asked", Severity.INFO)
        await trio.sleep(5)
        await house.catalog.notifications.put_word(RuleSpec(name="all", severity="info", targets=["a"]))
        tell(house, "asked for", Severity.INFO)
        tell(house, "for all", Severity.NOTICE)
        await trio.sleep(5)
        inbox = [row.text for row in await house.catalog.inbox.list(limit=10)]
    assert receivers.texts("a") == ["asked for", "for all"]
    assert receivers.texts("b") == []
    assert "for all" in inbox
    assert not {"asked for", "nobody asked"} & set(inbox)


@pytest.mark.parametrize("kind", ["smtp", "webhook"])
async def test_a_receiver_that_drips_is_left_after_a_while(
    kind: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_notify, "DELIVERY_SECONDS_MAX", 0.3)
    vault, pool = load_secrets(house.catalog.state), ThreadPool()
    sealed = vault.seal(PURPOSE, msgspec.json.encode(TargetSecrets()))
    with dripping(b"2" if kind == "smtp" else b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2000, greets=kind == "smtp") as port:
        spec = TargetSpec(kind="webhook", url=f"http://127.0.0.1:{port}/x")
        if kind == "smtp":
            people = {"sender": "a@b.example", "recipients": ["c@d.example"]}
            spec = TargetSpec(kind="smtp", host="127.0.0.1", port=port, tls="none", **people)  # type: ignore[arg-type]
        event = Event(house.clock.now(), EventSource.SYSTEM, Severity.ERROR, "test.kind", "x").to_json()
        with trio.fail_after(20), pytest.raises(FailedError, match="did not come to an end"):
            await Carrier(vault, pool, "node").send(TargetRecord(name="a", spec=spec, sealed=sealed), [event])
    assert pool.statistics()["talk"].busy == 0


@pytest.mark.parametrize("digest", [0, 1800])
async def test_a_clock_that_was_set_back_does_not_keep_messages_waiting(
    house: House, autojump_clock: MockClock, digest: int
) -> None:
    receivers = Receivers()
    deliveries = await furnish(house, receivers, digest_seconds=digest)
    later = house.clock.now_ns() + 400 * 86_400 * 10**9
    mild = {"severity": "warning", "source": "system", "kind": "test.kind", "text": "kept", "fields": {}}
    await deliveries.add(time_ns=later, **mild)  # type: ignore[arg-type]
    await house.catalog.notifications.failed(
        "a", [], error="503", payload="", command="", retry_ns=later, disable=False
    )
    async with house.running():
        await trio.sleep(5)
    assert receivers.texts("a") == receivers.texts("b") == ["kept"]


async def test_refused_recipients_are_told_to_the_others_once_and_hold_nobody_up(
    house: House, autojump_clock: MockClock
) -> None:
    """Both targets have such a recipient: what is told about one must not make the other tell for ever."""
    receivers = Receivers()
    receivers.refused = {"a": "gone@x: 550", "b": "away@x: 550"}
    deliveries = await furnish(house, receivers)
    async with house.running():
        for number in range(3):
            tell(house, str(number))
            await trio.sleep(5)
        receivers.refused["a"] = "gone@x: 550; left@x: 550"
        tell(house, "last")
        await trio.sleep(5)
        tested = await deliveries.test(await house.catalog.notifications.target("a"))
    told = [text for text in receivers.texts("b") if "taken" in text]
    assert told == [
        "notification target a: not every recipient is taken by the mail server: gone@x: 550",
        "notification target a: not every recipient is taken by the mail server: gone@x: 550; left@x: 550",
    ]
    assert [text for text in receivers.texts("a") if "taken" not in text] == [
        "0",
        "1",
        "2",
        "last",
        "a test of the notification target a",
    ]
    assert sum("taken" in text for text in receivers.texts("a")) == 1
    rows = await house.catalog.notifications.history("a")
    assert {(row.state, bool(row.error)) for row in rows[1:]} == {("sent", True)}
    assert (await house.catalog.notifications.target("a")).enabled
    assert "left@x" in tested[1]


@pytest.mark.parametrize("words", [{"ca": "nonsense"}, {"fingerprint": "ab:cd"}])
def test_trust_that_cannot_be_used_is_told_and_will_not_get_better(words: dict[str, str]) -> None:
    with pytest.raises(FailedError, match="certificates to trust") as failed:
        trusting(TargetSpec(kind="smtp", **words))  # type: ignore[arg-type]
    assert failed.value.details == {"permanent": True}
