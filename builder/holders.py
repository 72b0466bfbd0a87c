"""Who holds the module. The refcount is the authority; this only explains it (host.md, rule 5 and fact 20)."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builder.host import Host
from builder.kernel import device_nodes
from schema.names import DEVICE_DIRECTORY, MODULE

_PROCFS: Final = f"/proc/driver/{MODULE}"  # from 2.5.0; process ids of the reader's namespace: hostPID


def find_holders(host: Host) -> tuple[tuple[int, str], ...]:
    """(pid, what for people) of every process that can be seen holding a device, sorted by pid.

    By descriptors (device number, also under another name), mappings, registered io_uring files, exported dma-bufs, and
    the driver's own list. A descriptor in flight between processes shows nowhere.
    """
    devices = _devices(host)
    pids = sorted(int(name) for name in host.names("/proc") if name.isdigit())
    seen = {pid: how for pid in pids if (how := _held(host, pid, devices))}
    for pid in _listed(host):
        seen.setdefault(pid, _PROCFS)
    return tuple((pid, f"pid {pid} ({_name(host, pid)}) {how}") for pid, how in sorted(seen.items()))


def _devices(host: Host) -> dict[tuple[int, int], str]:
    found = {}
    for name in device_nodes(host):
        path = f"{DEVICE_DIRECTORY}/{name}"
        status = _status(host.path(path))
        if status is not None:
            found[_identity(status)] = path
    return found


def _held(host: Host, pid: int, devices: dict[tuple[int, int], str]) -> str:
    """How process `pid` holds a device; "" if it is not seen to."""
    for name in host.names(f"/proc/{pid}/fd"):
        status = _status(host.path(f"/proc/{pid}/fd/{name}"))
        if status is not None and _identity(status) in devices:
            return devices[_identity(status)]
    for line in host.text(f"/proc/{pid}/maps").splitlines():
        if f"{DEVICE_DIRECTORY}/" in line:
            return f"{line.split()[-1]} (mapped)"
    return next(_by_fdinfo(host, pid, {path.rpartition("/")[2] for path in devices.values()}), "")


def _by_fdinfo(host: Host, pid: int, names: set[str]) -> Iterator[str]:
    for number in host.names(f"/proc/{pid}/fdinfo"):
        text = host.text(f"/proc/{pid}/fdinfo/{number}")
        if f"exp_name:\t{MODULE}" in text:
            yield "dma-buf"
        if "UserFiles:" not in text:
            continue
        files = text.partition("UserFiles:")[2].partition("UserBufs:")[0].splitlines()[1:]
        if names & {line.partition(":")[2].strip() for line in files}:
            yield "io_uring"


def _listed(host: Host) -> list[int]:
    """What the driver itself says."""
    texts = (host.text(f"{_PROCFS}/{name}/pids") for name in host.names(_PROCFS))
    return [int(word) for text in texts for word in text.split() if word.isdigit()]


def _name(host: Host, pid: int) -> str:
    return host.text(f"/proc/{pid}/comm") or "?"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    """Device number of a character device, whatever its name; (device, inode) of the plain files of a fake host."""
    if stat.S_ISCHR(status.st_mode):
        return (-1, status.st_rdev)
    return (status.st_dev, status.st_ino)
