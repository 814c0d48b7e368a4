"""Tree archives: entries, metadata blocks, the nodes above them, and the two ways through: build and read.

Pure and without I/O: chunks leave through a function and come in through one. The format is formats.md section 4.

    entry    what one path is, and the rules for its values     order    which path may follow which
    block    bytes -> entries, nothing trusted                   block_writer  entries -> bytes, front-coded
    node     first paths -> chunks
    builder  entries -> chunks                                   reader   chunks -> entries, from any path on

Import from here.
"""

from ibs.core.tree.block import WireBlock, decode_block, iter_block, parse_block
from ibs.core.tree.builder import TreeBuilder, TreeRoot
from ibs.core.tree.entry import (
    FLAG_CONTINUED,
    FLAG_INCOMPLETE,
    FLAG_RACY,
    Entry,
    Extent,
    Kind,
    after_subtree,
    check_entry,
    check_path,
    clamp_time_ns,
    coalesce_extents,
    coalesce_ranges,
    entry_unchanged,
    is_racy,
    path_key,
)
from ibs.core.tree.node import Child, decode_node
from ibs.core.tree.reader import TreeReader

__all__ = [
    "FLAG_CONTINUED",
    "FLAG_INCOMPLETE",
    "FLAG_RACY",
    "Child",
    "Entry",
    "Extent",
    "Kind",
    "TreeBuilder",
    "TreeReader",
    "TreeRoot",
    "WireBlock",
    "after_subtree",
    "check_entry",
    "check_path",
    "clamp_time_ns",
    "coalesce_extents",
    "coalesce_ranges",
    "decode_block",
    "decode_node",
    "entry_unchanged",
    "is_racy",
    "iter_block",
    "parse_block",
    "path_key",
]
