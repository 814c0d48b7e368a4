"""Fetching what is damaged: in batches, one by one where a batch cannot be had, and told in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ibs.errors import ChunkNotFound, CorruptChunk, ServerUnreachable, UsageError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.runtime.pool import InlinePool
from ibs.services.mending import Mended, _fetch, parse_origin

ADDRESSES = [Address(PLAIN_DOMAIN, bytes([number]) * 32) for number in range(5)]


class There:
    """A remote that has every chunk but some."""

    def __init__(self, without: Sequence[int] = (), error: Exception | None = None) -> None:
        self.without = {ADDRESSES[number].id for number in without}
        self.error = error
        self.asked: list[int] = []

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        self.asked.append(len(ids))
        if self.error is not None:
            raise self.error
        for one in ids:
            if one in self.without:
                raise ChunkNotFound(one.hex())
        return list(ids)


class Here:
    """Takes what comes, but for one that does not check."""

    def __init__(self, wrong: int = -1) -> None:
        self.taken: list[bytes] = []
        self.wrong = wrong

    def take(self, addresses: Sequence[Address], blobs: Sequence[bytes]) -> int:
        if self.wrong >= 0 and ADDRESSES[self.wrong] in addresses:
            raise CorruptChunk(ADDRESSES[self.wrong].id.hex(), "it does not check")
        self.taken += blobs
        return sum(map(len, blobs))


async def fetch(here: Any, there: Any) -> Mended:
    done = Mended()
    await _fetch(here, there, ADDRESSES, InlinePool(), done)
    return done


async def test_all_at_once_where_all_are_there() -> None:
    there = There()
    done = await fetch(Here(), there)
    assert (there.asked, done.chunks, done.bytes, done.left) == ([5], 5, 160, [])


@pytest.mark.parametrize(("here", "there"), [(Here(), There([1, 3])), (Here(1), There([3]))])
async def test_what_is_not_whole_there_costs_only_itself(here: Here, there: There) -> None:
    done = await fetch(here, there)
    assert there.asked == [5, 1, 1, 1, 1, 1]
    assert (done.chunks, done.left) == (3, [ADDRESSES[1], ADDRESSES[3]])
    assert sorted(here.taken) == sorted(ADDRESSES[number].id for number in (0, 2, 4))


async def test_a_broken_line_ends_it() -> None:
    with pytest.raises(ServerUnreachable):
        await fetch(Here(), There(error=ServerUnreachable("gone", hint="wait")))


def test_it_is_told_in_words() -> None:
    assert str(Mended()) == "nothing had to be fetched"
    done = Mended(files=["manifest.sig"], chunks=2, bytes=2048, left=[ADDRESSES[1]])
    assert str(done) == (
        f"fetched manifest.sig and 2 chunks (2.0 KiB); 1 chunks are not whole there either, first {'01' * 32}"
    )


def test_a_place_to_mend_from() -> None:
    assert parse_origin("site-b:replica") == ("site-b", "replica")
    for text in ("", "site-b", ":replica", "site-b:", "site-b:../x", "a:b:c"):
        with pytest.raises(UsageError):
            parse_origin(text)
