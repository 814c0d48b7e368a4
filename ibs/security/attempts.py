"""How many wrong credentials each address sent lately, so that a stranger can flood neither audit log nor bus.

Used by `security.access`; `peer_key` also by `security.logins`. Bounded: the address that was quiet longest is
forgotten first. IPv6 addresses count by their /64, since a host has that many to choose from.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from ibs.core import limits
from ibs.ports.clock import Clock


@dataclass(slots=True)
class _Failures:
    since: float
    count: int


class Attempts:
    """Failures by address within `limits.AUTH_FAILURE_WINDOW_SECONDS`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Failures] = OrderedDict()

    def failed(self, peer: str) -> int:
        """Note a failure; return how many there were in the current window, this one included."""
        now, key = self._clock.monotonic(), peer_key(peer)
        seen = self._peers.get(key)
        if seen is None or now - seen.since >= limits.AUTH_FAILURE_WINDOW_SECONDS:
            seen = self._peers[key] = _Failures(now, 0)
        seen.count += 1
        self._peers.move_to_end(key)
        while len(self._peers) > limits.AUTH_PEERS_MAX:
            self._peers.popitem(last=False)
        return seen.count

    def __len__(self) -> int:
        return len(self._peers)


def peer_key(peer: str) -> str:
    """What `peer` counts as: the address, of IPv6 its /64; whatever else it is, bounded."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)
    return str(address)
