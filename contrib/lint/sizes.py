"""House limits on size: no source file over 500 lines, no function over 60."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def findings(path: Path) -> list[str]:
    """What is too long in one file."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT)
    found = []
    if (lines := text.count("\n")) > FILE_LINES_MAX:
        found.append(f"{name}: {lines} lines, over {FILE_LINES_MAX}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[0].lineno if ast.get_docstring(node) is None else node.body[0].end_lineno or node.lineno
            length = (node.end_lineno or node.lineno) - min(start, node.end_lineno or start)
            if length > FUNCTION_LINES_MAX:
                found.append(f"{name}:{node.lineno}: {node.name} has {length} lines, over {FUNCTION_LINES_MAX}")
    return found


def main() -> int:
    """Print each finding; return the exit status."""
    found = [line for path in sorted((ROOT / "ibs").rglob("*.py")) for line in findings(path)]
    print("\n".join(found) or "sizes: every file and function is within the house limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
