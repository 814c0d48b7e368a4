"""What hosts and server say to each other survives the way, and older programs understand newer ones."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.hosts import AgentOrders, AgentPoll, AgentRun, HostInvite, HostUpdate
from ibs.wire.system import BackupRun


def test_orders_survive_the_way() -> None:
    run = BackupRun(store="main", sources=["etc.tree:/etc"])
    orders = AgentOrders(start=[AgentRun(upid="UPID:x", run=run)], stop=["UPID:y"], hold_seconds=20, grace_seconds=60)
    assert msgspec.json.decode(msgspec.json.encode(orders), type=AgentOrders) == orders


def test_a_poll_of_a_newer_agent_is_understood() -> None:
    poll = msgspec.json.decode(b'{"instance": "a", "mood": "fine"}', type=AgentPoll)
    assert (poll.instance, poll.running) == ("a", [])


def test_an_update_tells_nothing_from_emptied() -> None:
    assert msgspec.json.decode(b'{"tags": []}', type=HostUpdate) == HostUpdate(tags=[], project=None)


def test_an_invitation_has_a_name_and_no_negative_time() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"{}", type=HostInvite)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name": "a", "valid_seconds": -1}', type=HostInvite)
