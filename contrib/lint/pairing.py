"""Every source file with code has its test file: `ibs/a/b.py` is paired with `ibs_tests/unit/a/test_b.py`.

A package may also be tested as a whole: `ibs/a/b/` by `ibs_tests/unit/a/test_b.py` counts for files inside it whose
own test file is missing only when that file is listed in COVERED_BY below, with its reason.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COVERED_BY: dict[str, str] = {
    "ports/access.py": "protocols only; ibs_tests/unit/catalog and unit/security run on the implementations",
    "ports/catalog.py": "protocols only; ibs_tests/unit/catalog and unit/engine run on the implementations",
    "ports/chunkstore.py": "protocols only; ibs_tests/conformance runs on each implementation",
    "ports/clock.py": "a protocol only; ibs_tests/unit/runtime/test_clock.py",
    "ports/pool.py": "a protocol only; ibs_tests/unit/runtime/test_pool.py",
    "ports/transport.py": "protocols only; ibs_tests/unit/client/test_transport.py and unit/engine/test_direct.py",
}


def has_code(path: Path) -> bool:
    """True when the module holds more than a docstring, imports, and re-exports."""
    body = ast.parse(path.read_text("utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


def has_assertions(path: Path) -> bool:
    """True when the test file holds at least one test with an assertion or an expected error."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "raises":
            return True
    return False


def main() -> int:
    """Print each unpaired file; return the exit status."""
    wrong = []
    for source in sorted((ROOT / "ibs").rglob("*.py")):
        relative = source.relative_to(ROOT / "ibs")
        if not has_code(source) or str(relative) in COVERED_BY:
            continue
        name = f"test_{relative.name}" if relative.name != "__init__.py" else f"test_{relative.parent.name}.py"
        parent = relative.parent if relative.name != "__init__.py" else relative.parent.parent
        test = ROOT / "ibs_tests" / "unit" / parent / name
        if not test.exists():
            wrong.append(f"ibs/{relative}: no {test.relative_to(ROOT)}")
        elif not has_assertions(test):
            wrong.append(f"{test.relative_to(ROOT)}: asserts nothing")
    wrong += [
        f"COVERED_BY names {name}, which does not exist" for name in COVERED_BY if not (ROOT / "ibs" / name).exists()
    ]
    print("\n".join(wrong) or "test pairing: every source file has its test")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
