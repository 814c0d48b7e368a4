"""What is said where a library of the extra `paper` is not installed. Used by the modules beside it."""

from __future__ import annotations

from ibs.errors import UnavailableError


def missing(work: str, library: str, instead: str) -> UnavailableError:
    """That `work` cannot be done here, what it takes, and what works without."""
    return UnavailableError(
        f"{work} needs {library}, which is not installed here",
        hint=f"install the extra: pip install 'ironcore-backup[paper]'; or {instead}",
    )
