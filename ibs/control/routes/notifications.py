"""Who is told what: targets, groups, rules, and the history of messages. The use cases are the desk's."""

from __future__ import annotations

from ibs.control.routing import Call, Query, Routes, needs
from ibs.core.access import Privilege
from ibs.errors import UsageError
from ibs.wire.notification import (
    GroupSpec,
    HistoryView,
    RuleSpec,
    TargetSet,
    TargetView,
    TestRequest,
    TestResult,
)

routes = Routes("notifications")
_SEE = needs(Privilege.SYSTEM_AUDIT, "/system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")


@routes.route("GET", "/notifications/targets", access=_SEE, answer=list[TargetView])
async def notification_target_list(call: Call) -> list[TargetView]:
    """List targets, how many messages wait for each, and how its last test went."""
    return await call.context.notifications.targets()


@routes.route("GET", "/notifications/targets/{name}", access=_SEE, answer=TargetView)
async def notification_target_show(call: Call) -> TargetView:
    """Show one target; secrets are never shown."""
    return await call.context.notifications.target(call.path["name"])


@routes.route("POST", "/notifications/targets", access=_CHANGE, body=TargetSet, answer=TargetView)
async def notification_target_create(call: Call) -> TargetView:
    """Make a target."""
    return await call.context.notifications.create(call.body)


@routes.route("POST", "/notifications/targets/{name}", access=_CHANGE, body=TargetSet, answer=TargetView)
async def notification_target_update(call: Call) -> TargetView:
    """Replace a target's settings, and its secrets when they are given."""
    request: TargetSet = call.body
    if request.name != call.path["name"]:
        raise UsageError("the body names another target than the address")
    return await call.context.notifications.update(request)


@routes.route("POST", "/notifications/targets/{name}/enable", access=_CHANGE, answer=TargetView)
async def notification_target_enable(call: Call) -> TargetView:
    """Enable a target; what waited for it is sent."""
    return await call.context.notifications.steer(call.path["name"], enabled=True)


@routes.route("POST", "/notifications/targets/{name}/disable", access=_CHANGE, answer=TargetView)
async def notification_target_disable(call: Call) -> TargetView:
    """Disable a target; messages wait."""
    return await call.context.notifications.steer(call.path["name"], enabled=False)


@routes.route("POST", "/notifications/targets/{name}/test", access=_CHANGE, body=TestRequest, answer=TestResult)
async def notification_target_test(call: Call) -> TestResult:
    """Send a test message now; keep and return how it went."""
    request: TestRequest = call.body
    return await call.context.notifications.test(call.path["name"], request.recipient)


@routes.route("DELETE", "/notifications/targets/{name}", access=_CHANGE)
async def notification_target_remove(call: Call) -> None:
    """Remove a target; what waits for it is dropped."""
    await call.context.notifications.remove(call.path["name"])


@routes.route("GET", "/notifications/groups", access=_SEE, answer=list[GroupSpec])
async def notification_group_list(call: Call) -> list[GroupSpec]:
    """List groups of targets."""
    return await call.context.notifications.groups()


@routes.route("POST", "/notifications/groups", access=_CHANGE, body=GroupSpec, answer=GroupSpec)
async def notification_group_set(call: Call) -> GroupSpec:
    """Make or replace a group."""
    return await call.context.notifications.set_group(call.body)


@routes.route("DELETE", "/notifications/groups/{name}", access=_CHANGE)
async def notification_group_remove(call: Call) -> None:
    """Remove a group."""
    await call.context.notifications.remove_group(call.path["name"])


@routes.route("GET", "/notifications/rules", access=_SEE, answer=list[RuleSpec])
async def notification_rule_list(call: Call) -> list[RuleSpec]:
    """List rules."""
    return await call.context.notifications.rules()


@routes.route("POST", "/notifications/rules", access=_CHANGE, body=RuleSpec, answer=RuleSpec)
async def notification_rule_set(call: Call) -> RuleSpec:
    """Make or replace a rule."""
    return await call.context.notifications.set_rule(call.body)


@routes.route("DELETE", "/notifications/rules/{name}", access=_CHANGE)
async def notification_rule_remove(call: Call) -> None:
    """Remove a rule."""
    await call.context.notifications.remove_rule(call.path["name"])


@routes.route(
    "GET",
    "/notifications/history",
    access=_SEE,
    answer=list[HistoryView],
    query=[
        Query("target", doc="only of this target"),
        Query("state", doc="only what is waiting, sent, failed or dropped"),
        Query("limit", "integer", 100, doc="at most so many"),
    ],
)
async def notification_history(call: Call) -> list[HistoryView]:
    """List messages, newest first."""
    return await call.context.notifications.history(call.query["target"], call.query["limit"], call.query["state"])


@routes.route("GET", "/notifications/history/{n}", access=_SEE, answer=HistoryView)
async def notification_history_show(call: Call) -> HistoryView:
    """Show a message with its payload, and the command that repeats it."""
    number = call.path["n"]
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise UsageError(f"{number[:32]!r} is no number of a message")
    return await call.context.notifications.history_entry(int(number))
