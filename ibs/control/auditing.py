"""What of the requests goes into the audit log, and when. Used by `control.app` around every handler.

Invariants: a change is not begun when it could not be written down, and not answered before it was; reading writes
nothing unless it is refused. Traffic inside a write session, a reader or an agent's connection is left out while it
goes well: what opens and ends those is a row, and thousands of chunks a second would only hide it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ibs.control.routing import OCTETS, Call, Route
from ibs.control.standing import difference, standing
from ibs.core import limits
from ibs.core.audit import Outcome
from ibs.errors import FailedError, IbsError
from ibs.log import get_logger
from ibs.security.access import Principal

if TYPE_CHECKING:
    from ibs.services.audit import Audit

TRAFFIC: Final = frozenset(
    {
        "agent_log",
        "agent_poll",
        "agent_session",
        "prune_simulate",
        "reader_fetch",
        "session_append",
        "session_blob",
        "session_close_archive",
        "session_report",
        "session_send",
        "session_suspect",
    }
)
"""Operations that change nothing by themselves, or only inside a session whose opening and commit are rows."""
_REFUSED: Final = (401, 403)
_log = get_logger("api")


class Record:
    """One request on its way through the control plane."""

    def __init__(self, audit: Audit | None, route: Route, path: dict[str, str], peer: str) -> None:
        self._audit = audit
        self._route = route
        self._path = path
        self._peer = peer
        self._changes = route.method != "GET" and route.operation not in TRAFFIC
        self.principal: Principal | None = None
        self.call: Call | None = None
        self._before: Any = None

    async def begin(self) -> None:
        """The request is admitted and about to be handled. Raises NoSpace, FailedError: it must not begin."""
        if self._audit is not None and self._changes:
            await self._audit.admit()
            if self.call is not None:
                self.call.on_look = self._look
                if self._route.access.privilege is not None:
                    await self._look()

    async def _look(self) -> None:
        """Remember how it stands, now that the caller is known to be one who may change it."""
        if self.call is not None:
            self._before = await standing(self.call, self._route.operation)

    async def done(self) -> None:
        """The handler has returned. Raises FailedError when that cannot be written down: it is told as such."""
        if self._audit is None or not self._changes:
            return
        try:
            await self._note(Outcome.OK, None)
        except IbsError as error:
            raise FailedError(
                f"{self._route.operation} was done, but cannot be written into the audit log: {error.message}",
                hint="look at what it changed, and free space for the state folder before the next change",
            ) from error

    async def failed(self, error: IbsError | None) -> None:
        """The request ends with `error`; None for one of no kind of ours. Never raises an error of ours."""
        refused = error is not None and error.http_status in _REFUSED
        anonymous = refused and self.principal is None and error is not None and error.http_status == 401
        if self._audit is None or not (self._changes or refused):
            return
        try:
            await self._note(Outcome.REFUSED if refused else Outcome.FAILED, error, bare=anonymous)
        except IbsError as trouble:  # the caller is refused anyway; what failed is told where it is looked for
            _log.error("a refusal could not be written into the audit log", error=trouble.message)

    async def cut_off(self) -> None:
        """The caller went away, or the server stops, while the handler ran."""
        if self._audit is not None and self._changes and self.call is not None:
            try:
                await self._note(Outcome.CUT_OFF, None)
            except IbsError as trouble:
                _log.error("a change that was cut off could not be written down", error=trouble.message)

    async def _note(self, outcome: Outcome, error: IbsError | None, *, bare: bool = False) -> None:
        if self._audit is None:
            return
        before, after = await self._told(self.call, outcome) if self.call is not None else (None, None)
        target = "" if bare else "/".join(self._path.values())
        await self._audit.note(
            auth_id=self.principal.auth_id if self.principal is not None else "",
            peer=self._peer,
            action=self._route.operation,
            target=target or (not bare and _named(self.call)) or self._route.path,
            outcome=outcome,
            error=error,
            before=before,
            after=after,
        )

    async def _told(self, call: Call, outcome: Outcome) -> tuple[Any, Any]:
        """What differs between how it stood and how it stands, and on the right what was asked for, too.

        A handler that tells it itself knows better. What was not done has changed nothing.
        """
        asked = _asked(self._route, call)
        if "after" in call.audit:
            return call.audit.get("before"), call.audit["after"]
        if outcome not in (Outcome.OK, Outcome.CUT_OFF):
            return None, asked
        before, after = difference(self._before, await standing(call, self._route.operation))
        return before or None, {**(asked or {}), **(after or {}), **call.audit} or None


def _named(call: Call | None) -> str:
    """What is made, where the path does not say it: its name in the body."""
    for word in ("name", "auth_id", "fingerprint"):
        named = getattr(call.body, word, "") if call is not None else ""
        if isinstance(named, str) and named:
            return named
    return ""


async def plane_refused(audit: Audit | None, auth_id: str, peer: str, error: IbsError) -> None:
    """A caller on the data plane ends with `error`: a row when it is a refusal. Raises nothing of ours."""
    if audit is None or error.http_status not in _REFUSED:
        return
    try:
        await audit.note(
            auth_id=auth_id, peer=peer, action="data_plane", target="", outcome=Outcome.REFUSED, error=error
        )
    except IbsError as trouble:
        _log.error("a refusal could not be written into the audit log", error=trouble.message)


def _asked(route: Route, call: Call) -> Any:
    """What was asked for, when the handler does not say what came of it."""
    asked: dict[str, Any] = {name: value for name, value in call.query.items() if value not in ("", None)}
    if route.body is not None and route.body != OCTETS:
        body = msgspec.to_builtins(call.body)
        asked |= body if isinstance(body, dict) else {"body": body}
    return dict(list(asked.items())[: limits.EVENT_FIELDS_MAX]) or None
