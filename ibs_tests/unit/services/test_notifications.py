"""What administrators may set, and what they are shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ibs.errors import NotFoundError, UsageError
from ibs.security.secrets import load_secrets
from ibs.services.deliveries import Carrier, Deliveries
from ibs.services.notifications import Notifications, check_target
from ibs.wire.notification import RuleSpec, TargetSecrets, TargetSet, TargetSpec
from ibs_tests.support.receivers import http_receiver
from ibs_tests.unit.services.conftest import House

PIN = ":".join(["ab"] * 32)


def desk(house: House) -> Notifications:
    vault, table = load_secrets(house.catalog.state), house.catalog.notifications
    deliveries = Deliveries(table, Carrier(vault, house.pool, "node"), clock=house.clock, publish=house.publish)
    return Notifications(table, deliveries, vault, house.clock)


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "pigeon"},
        {"kind": "webhook", "url": "ftp://h/x"},
        {"kind": "webhook", "url": "https://user:pw@h/x"},
        {"kind": "webhook", "url": "https://h/x", "template": "$secret"},
        {"kind": "webhook", "url": "https://h/x", "attempts_max": 0},
        {"kind": "pushgateway", "url": "https://h/x"},
        {"kind": "pushgateway", "url": "https://h/x", "figures_seconds": 60, "logs": "info"},
        {"kind": "metric", "url": "https://h/x", "figures_seconds": 1},
        {"kind": "metric", "url": "https://h/x", "logs": "loud"},
        {"kind": "webhook", "url": "https://h/x", "logs": "info"},
        {"kind": "webhook", "url": "https://h/x", "figures_seconds": 60},
        {"kind": "webhook", "url": "https://h/x", "fingerprint": "ab:cd"},
        {"kind": "webhook", "url": "http://h/x", "fingerprint": PIN},
        {"kind": "webhook", "url": "https://h/x", "fingerprint": PIN, "ca": "pem"},
        {"kind": "smtp", "host": "h", "sender": "a@b", "recipients": ["a@b"], "tls": "none", "fingerprint": PIN},
        {"kind": "smtp", "host": "h", "sender": "a@b", "recipients": []},
        {"kind": "smtp", "host": "h", "sender": "a@b\r\nBcc: c@d", "recipients": ["a@b"]},
        {"kind": "smtp", "host": "h", "sender": "a@b", "recipients": ["a@b"], "tls": "none", "username": "u"},
    ],
)
def test_bad_targets_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        check_target(TargetSpec(**words))


async def test_secrets_stay_when_settings_change_and_are_not_kept_plain(house: House) -> None:
    notifications, spec = desk(house), TargetSpec(kind="webhook", url="https://h/x")
    secrets = TargetSecrets(secret="hush-hush", headers={"X-Key": "v"})
    await notifications.create(TargetSet(name="chat", spec=spec, secrets=secrets))
    view = await notifications.update(TargetSet(name="chat", spec=TargetSpec(kind="webhook", url="https://h/y")))
    assert (view.spec.url, view.has_secret, view.headers) == ("https://h/y", True, ["X-Key"])
    assert b"hush-hush" not in (await house.catalog.notifications.target("chat")).sealed
    bad = TargetSecrets(headers={"X-Key": "a\r\nX-Evil: b"})
    with pytest.raises(UsageError):
        await notifications.update(TargetSet(name="chat", spec=spec, secrets=bad))


async def test_rules_must_lead_somewhere(house: House) -> None:
    notifications = desk(house)
    for rule in (
        RuleSpec(name="r"),
        RuleSpec(name="r", severity="awful", targets=["a"]),
        RuleSpec(name="r", windows=["night"], targets=["a"]),
        RuleSpec(name="r", windows=["22:00-06:00"], time_zone="Mars/Base", targets=["a"]),
    ):
        with pytest.raises(UsageError):
            await notifications.set_rule(rule)
    with pytest.raises(NotFoundError):
        await notifications.set_rule(RuleSpec(name="r", targets=["a"]))
    with pytest.raises(NotFoundError):
        await notifications.history_entry(1)


async def test_a_test_is_sent_at_once_and_its_result_kept(house: House) -> None:
    notifications = desk(house)
    with http_receiver() as posts:
        await notifications.create(TargetSet(name="chat", spec=TargetSpec(kind="webhook", url=posts.url)))
        posts.status = 500
        assert not (await notifications.test("chat")).ok
        posts.status = 204
        result = await notifications.test("chat")
        with pytest.raises(UsageError):
            await notifications.test("chat", "a@b.c")
    assert result.ok
    assert (await notifications.target("chat")).test == result
    assert [row.state for row in await notifications.history("chat", 10)] == ["sent", "failed"]
    assert [row.state for row in await notifications.history("chat", 10, "failed")] == ["failed"]
    with pytest.raises(UsageError, match="state"):
        await notifications.history("", 10, "lost")
    assert "curl" in (await notifications.history_entry(result.history)).command


async def test_a_corrected_target_is_tried_at_once_and_stays_what_it_is(house: House) -> None:
    notifications, table = desk(house), house.catalog.notifications
    spec = TargetSpec(kind="webhook", url="https://h/x")
    await notifications.create(TargetSet(name="chat", spec=spec))
    await table.failed("chat", [], error="404", payload="", command="", retry_ns=2**62, disable=False)
    changed = msgspec.structs.replace(spec, url="https://h/y")
    await notifications.update(TargetSet(name="chat", spec=changed))
    record = await table.target("chat")
    assert (record.spec, record.failures, record.retry_ns) == (changed, 0, 0)
    metric = TargetSet(name="chat", spec=TargetSpec(kind="metric", url="https://h/y"))
    with pytest.raises(UsageError, match="of kind webhook, which cannot change"):
        await notifications.update(metric)
    with pytest.raises(NotFoundError):
        await notifications.update(TargetSet(name="gone", spec=spec))


async def test_secret_and_headers_change_one_without_the_other(house: House) -> None:
    notifications, spec = desk(house), TargetSpec(kind="webhook", url="https://h/x")
    await notifications.create(TargetSet(name="chat", spec=spec, secrets=TargetSecrets(headers={"X-Key": "v"})))
    new = TargetSecrets(secret="s")
    view = await notifications.update(TargetSet(name="chat", spec=spec, secrets=new, keep_headers=True))
    assert (view.has_secret, view.headers) == (True, ["X-Key"])
    new = TargetSecrets(headers={"X-Other": "w"})
    view = await notifications.update(TargetSet(name="chat", spec=spec, secrets=new, keep_secret=True))
    assert (view.has_secret, view.headers) == (True, ["X-Other"])
    view = await notifications.update(TargetSet(name="chat", spec=spec, secrets=TargetSecrets()))
    assert (view.has_secret, view.headers) == (False, [])
