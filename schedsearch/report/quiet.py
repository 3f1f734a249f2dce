"""Whether the person asked for quiet: then only what goes wrong is said."""

from __future__ import annotations

_asked = False


def hush(quiet: bool) -> None:
    """Leave out progress and remarks from now on, or do not."""
    global _asked
    _asked = quiet


def is_quiet() -> bool:
    """Tell whether progress and remarks are left out."""
    return _asked
