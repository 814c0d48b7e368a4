"""Which targets an event is for. Pure; used by `services`.

The event's own `notification_group` counts first, but what is only information goes by rules alone: nobody gets it who
did not ask for it. Without any rule, warnings and worse go to every target. Rules with time windows ask when the event
happened, not when it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from ibs.core.events import Severity
from ibs.core.schedule import in_window
from ibs.errors import UsageError
from ibs.wire.notification import GroupSpec, RuleSpec

TARGET_DISABLED = "notify.target-disabled"
RECIPIENTS_REFUSED = "notify.recipients-refused"


def choose(
    event: Mapping[str, Any], rules: Sequence[RuleSpec], groups: Sequence[GroupSpec], targets: Sequence[str]
) -> list[str]:
    """Names out of `targets`, each once. What a target's own end says goes to the others."""
    fields = event["fields"]
    members = {group.name: group.targets for group in groups}
    told_of = Severity(event["severity"]).rank > Severity.INFO.rank
    own = members.get(str(fields.get("notification_group", ""))) if told_of else None
    if own is not None:
        wanted = set(own)
    elif rules:
        hit = [rule for rule in rules if matches(rule, event)]
        wanted = {name for rule in hit for name in rule.targets}
        wanted |= {name for rule in hit for group in rule.groups for name in members.get(group, ())}
    else:
        wanted = set(targets) if Severity(event["severity"]).rank >= Severity.WARNING.rank else set()
    if event["kind"] in (TARGET_DISABLED, RECIPIENTS_REFUSED):
        wanted.discard(str(fields.get("target", "")))
    return [name for name in targets if name in wanted]


def matches(rule: RuleSpec, event: Mapping[str, Any]) -> bool:
    """Every word of the rule that is not empty fits. A zone that this machine does not know (any more) is no reason to
    keep silent: such a rule holds at all times.
    """
    fields = event["fields"]
    return (
        Severity(event["severity"]).rank >= Severity(rule.severity).rank
        and (not rule.sources or event["source"] in rule.sources)
        and (not rule.kind or fnmatchcase(event["kind"], rule.kind))
        and (not rule.datastore or fields.get("datastore") == rule.datastore)
        and (not rule.namespace or fields.get("namespace") == rule.namespace)
        and (not rule.job or fields.get("job") == rule.job)
        and (not rule.host or fields.get("host") == rule.host)
        and _at_this_time(rule, str(event["time"]))
    )


def _at_this_time(rule: RuleSpec, time: str) -> bool:
    if not rule.windows:
        return True
    try:
        return in_window(rule.windows, rule.time_zone, datetime.fromisoformat(time))
    except (UsageError, ValueError):
        return True


def least_severity(rules: Sequence[RuleSpec]) -> int:
    """The rank of the mildest event that any rule asks for; without rules that of a warning."""
    return min((Severity(rule.severity).rank for rule in rules), default=Severity.WARNING.rank)
