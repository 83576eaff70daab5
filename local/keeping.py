"""What the local system made for itself once and keeps in its directory: secrets of its own."""

from collections.abc import Callable
from pathlib import Path


def ensure_kept(path: Path, make: Callable[[], str]) -> str:
    """Return what the file holds, made at the first call; only its owner may read it."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make())
    return path.read_text()
