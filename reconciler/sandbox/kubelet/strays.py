"""What a builder started and what may outlive it: a container would take it along, a process group does not.

Host commands run in sessions of their own, so that a time-out can kill them as a group.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.sandbox.processes import Identity, end
from schema.names import ENV_HOST_ROOT, STATE_DIRECTORY

END_GRACE_S: Final = 0.2
ORPHANED: Final = 1  # parent of a process whose own has died


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    pid: int
    parent: int


def kill_tree(pid: int) -> None:
    """SIGKILL to the process group of `pid`, and to all that descends from it, whatever its group."""
    below = descendants(pid, _processes())
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for child in below:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def end_strays(hosts_directory: Path) -> list[int]:
    """End processes that work on a host below `hosts_directory` although the hollow kubelet that ran them was killed.

    Call it before any node starts. The builder itself dies with its kubelet; git or make below it may not.

    Returns:
        Their ids.
    """
    processes = _processes()
    directory = hosts_directory.resolve()
    found = {p.pid for p in processes if p.pid != os.getpid() and _works_below(p, directory)}
    found |= {child for pid in found for child in descendants(pid, processes)}
    identities = [identity for pid in sorted(found) if (identity := Identity.of(pid))]
    return [identity.pid for identity in identities if end(identity, grace_s=END_GRACE_S)]


def descendants(pid: int, processes: Iterable[_Process]) -> list[int]:
    """Children of `pid`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _works_below(process: _Process, directory: Path) -> bool:
    """A builder by its environment; what it left behind by the host lock it inherited, or as an orphan at work there."""
    place = Path(f"/proc/{process.pid}")
    with suppress(OSError):
        marker = f"{ENV_HOST_ROOT}={directory}/".encode()
        if any(variable.startswith(marker) for variable in (place / "environ").read_bytes().split(b"\0")):
            return True
        if process.parent == ORPHANED and (place / "cwd").readlink().is_relative_to(directory):
            return True
        lock = f"{STATE_DIRECTORY}/lock"
        targets = [os.readlink(file) for file in (place / "fd").iterdir()]  # noqa: PTH115  may be no paths
        return any(target.startswith(f"{directory}/") and target.endswith(lock) for target in targets)
    return False


def _processes() -> list[_Process]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found.append(_Process(pid=int(path.name), parent=int(fields[1])))
    return found
