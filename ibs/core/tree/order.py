"""The canonical order, checked one step at a time: may this path follow that one?

Used by the block codec, the builder and the reader, so that all three refuse the same archives. A step is given in
front-coded form (bytes shared with the path before, then the suffix), which is also what makes the check cheap: when
`shared` is the longest common prefix, the order hangs on one byte and only the last component can be new.
"""

from __future__ import annotations

from typing import Final

from ibs.core import limits
from ibs.core.tree.entry import show
from ibs.errors import FormatError

_SLASH: Final = 0x2F
_DOT: Final = 0x2E


def common_prefix_bytes(a: bytes, b: bytes) -> int:
    """Length of the longest common prefix, without a loop in Python."""
    if b.startswith(a):
        return len(a)
    n = min(len(a), len(b))
    differs = int.from_bytes(a[:n], "big") ^ int.from_bytes(b[:n], "big")
    return n - (differs.bit_length() + 7) // 8


def check_step(before: bytes, before_is_folder: bool, shared: int, suffix: bytes) -> None:
    """Accept `before[:shared] + suffix` as the path right after `before`, which is valid itself.

    Holds the whole order: strictly ascending, `shared` is the longest common prefix, a path's folder is an entry of
    kind folder before it, components are real names. Raises FormatError.
    """
    length = len(before)
    slash = suffix.rfind(b"/")
    if shared > length or not suffix or shared + len(suffix) > limits.PATH_BYTES_MAX:
        raise FormatError(f"after {show(before)!r}: a path that is doubled, too long or shares more than there is")
    if slash >= 0 or not length:
        # One level down. Anything deeper, or below what is no folder, has no parent in the archive.
        if slash > 0 or shared != length or not before_is_folder or (slash == 0) == (not length):
            raise FormatError(f"after {show(before)!r}: the folder of {show(before[:shared] + suffix)!r} is missing")
        name = suffix[slash + 1 :]
        if name in (b"", b".", b".."):
            raise FormatError(f"after {show(before)!r}: {show(name)!r} is no name")
    else:
        if shared < length:
            mark = before[shared]
            if mark == suffix[0] or (mark > suffix[0] and mark != _SLASH):
                raise FormatError(f"{show(before[:shared] + suffix)!r} is out of order after {show(before)!r}")
        if suffix[-1] == _DOT and (before[:shared].rpartition(b"/")[2] + suffix) in (b".", b".."):
            raise FormatError(f"after {show(before)!r}: '.' and '..' are no names")
    if b"\0" in suffix:
        raise FormatError(f"after {show(before)!r}: a name with a NUL byte")
