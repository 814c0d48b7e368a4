from __future__ import annotations

from ibs.core import limits_keys, publickey
from ibs.core.keys import DataKeys


def test_the_longest_public_key_fits_its_bound() -> None:
    longest = publickey.describe(DataKeys.from_root(bytes(32)), "\N{SNOWMAN}" * limits_keys.KEY_TEXT_CHARS_MAX)
    assert len(publickey.encode(longest)) <= limits_keys.PUBLIC_KEY_BYTES_MAX
