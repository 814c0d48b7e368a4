"""All routes of the API, one file a noun; `ALL` is what the application serves and the description describes."""

from __future__ import annotations

from itertools import chain

from ibs.control.routes import access, datastores, readers, sessions, system, tasks

ALL = tuple(chain(system.routes, datastores.routes, sessions.routes, readers.routes, tasks.routes, access.routes))
