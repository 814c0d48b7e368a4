"""All routes of the API, one file a noun; `ALL` is what the application serves and the description describes."""

from __future__ import annotations

from itertools import chain

from ibs.control.routes import (
    access,
    audit,
    certificate,
    datastores,
    gc,
    hosts,
    jobs,
    keys,
    lifecycle,
    locks,
    logins,
    metrics,
    notifications,
    readers,
    realms,
    remotes,
    roles,
    schedules,
    services,
    sessions,
    sla,
    support,
    sync,
    system,
    tasks,
)

_STORES = (datastores, lifecycle, locks, gc, schedules, sessions, readers)
_PEOPLE = (access, logins, roles, keys, realms)
_SERVER = (system, certificate, services, metrics)
_WATCH = (audit, support, sla, notifications)
_NOUNS = (*_SERVER, *_STORES, tasks, jobs, hosts, remotes, sync, *_PEOPLE, *_WATCH)
ALL = tuple(chain.from_iterable(noun.routes for noun in _NOUNS))
