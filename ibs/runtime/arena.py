"""Memory that two processes share: places in it are taken, handed out as views, and free again when no view is left.

Used by `client`. The memory belongs to no file (a memfd), so nothing is left behind however a process ends. The owner
only reads; the other process writes through a map of its own. A view keeps its place taken for as long as anything
refers to it, in any thread, just as a bytes object would keep its memory: nobody can be overtaken by a reuse.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

_ALIGNMENT = 64


class Arena:
    """The owner's side. `take`, `give_back` and `view` in one thread; views may die in any."""

    def __init__(self, size: int) -> None:
        """Raises OSError where the system has no such memory."""
        self.size = size
        self.fd = os.memfd_create("ibs-arena", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise
        self._free = [(0, size)]
        self._dead: deque[int] = deque()
        self._lengths: dict[int, int] = {}
        self._views: dict[int, weakref.ref[Any]] = {}

    def take(self, size: int) -> int | None:
        """The offset of a free place of `size` bytes; None when there is none now."""
        self._collect()
        room = max(-(-size // _ALIGNMENT), 1) * _ALIGNMENT
        for number, (at, length) in enumerate(self._free):
            if length >= room:
                if length == room:
                    del self._free[number]
                else:
                    self._free[number] = (at + room, length - room)
                self._lengths[at] = room
                return at
        return None

    def view(self, at: int, size: int) -> memoryview:
        """`size` bytes of a taken place, once; the place is free again when the last reference to them is gone."""
        array = np.frombuffer(self._map, np.uint8, count=size, offset=at)
        self._views[at] = weakref.ref(array, self._dying(at))
        return memoryview(array.data)

    def give_back(self, at: int) -> None:
        """A taken place that nobody has a view of, and nobody writes to, is free again."""
        length = self._lengths.pop(at)
        number = 0
        while number < len(self._free) and self._free[number][0] < at:
            number += 1
        self._free.insert(number, (at, length))
        if number + 1 < len(self._free) and at + length == self._free[number + 1][0]:
            self._free[number : number + 2] = [(at, length + self._free[number + 1][1])]
        if number and sum(self._free[number - 1]) == at:
            before = self._free[number - 1][0]
            self._free[number - 1 : number + 1] = [(before, at + self._free[number][1] - before)]

    @property
    def free_bytes(self) -> int:
        """Free in all; the largest place may be smaller."""
        self._collect()
        return sum(length for _, length in self._free)

    def close(self) -> None:
        """Give the descriptor up. The memory goes with the last view and the last process that has it mapped."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _dying(self, at: int) -> Callable[[object], None]:
        dead = self._dead  # in whatever thread: taking note is all that is done there
        return lambda _: dead.append(at)

    def _collect(self) -> None:
        while self._dead:
            at = self._dead.popleft()
            del self._views[at]
            self.give_back(at)
