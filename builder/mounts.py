"""Kernel headers name each other by absolute paths: make the host's valid in the pod, where the host lies below /host.

Debian's `/usr/src/linux-headers-<release>/Makefile` includes `/usr/src/linux-headers-<abi>-common/Makefile`, and its
`scripts` leads to `/usr/lib/linux-kbuild-<version>`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builder.host import Host

_PLACES: Final = (("/usr/src", "*"), ("/usr/lib", "linux-kbuild-*"), ("/lib/modules", "*"))


def link_headers(host: Host, own_root: Path = Path("/")) -> None:
    """Link what only the host has into our own root. Nothing is replaced, nothing on the host is touched."""
    if host.bin is not None or host.root == own_root:
        return
    for place, name in _missing(host, own_root):
        directory = own_root / place.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).symlink_to(host.path(f"{place}/{name}"))


def _missing(host: Host, own_root: Path) -> Iterator[tuple[str, str]]:
    for place, pattern in _PLACES:
        for path in sorted(host.path(place).glob(pattern)):
            own = own_root / place.lstrip("/") / path.name
            if not own.exists() and not own.is_symlink():
                yield place, path.name
