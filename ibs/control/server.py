"""The control plane and the data plane on one port. Called by the api service with what `app` composed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ibs.control.app import create_app
from ibs.control.dataplane import serve_plane
from ibs.control.listener import Address, Listener
from ibs.control.routes import ALL
from ibs.errors import UnavailableError
from ibs.log import get_logger
from ibs.wire import frames

if TYPE_CHECKING:
    from ibs.services.context import ServerContext

_log = get_logger("api")


async def serve(context: ServerContext, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until `context.api_stopping` is set; `task_status` gets the bound address.

    A restart after a crash takes the port that `context.endpoint` holds, so that clients find the server again.
    Raises UnavailableError when the address cannot be bound. *Cancellation*: connections are closed at once.
    """
    settings, endpoint = context.settings, context.endpoint
    wanted = Address(endpoint.host or settings.listen_host, endpoint.port or settings.listen_port)
    listener = Listener(
        create_app(context, ALL),
        lambda: context.tls,
        planes={frames.ALPN: partial(serve_plane, context)},
        on_refused=lambda reason: _log.warning("connection refused", reason=reason),
    )
    try:
        await listener.serve(wanted, stop=context.api_stopping, task_status=task_status)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {wanted.host}:{wanted.port}: {error.strerror or error}",
            hint="stop what uses the port, or choose another with --listen",
        ) from error
