"""The end of a pod on its machine, also of one that was deleted while no kubelet looked."""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from reconciler.sandbox.kubelet.machine import Machine
from reconciler.sandbox.kubelet.runtime import holder

SAVED: Final = "pod.json"  # what is on disk of a pod


def forget_orphans(machine: Machine, present: Iterable[str]) -> None:
    """Directories of pods that the server does not know any more; what they hold is released."""
    known = set(present)
    directories = machine.directory / "pods"
    for directory in directories.iterdir() if directories.is_dir() else ():
        if directory.name not in known:
            clear(machine, directory)


def clear(machine: Machine, directory: Path) -> None:
    """All that a pod still has on its machine: its files, and the device if it was not let go."""
    with suppress(OSError, ValueError, KeyError):
        saved = json.loads((directory / SAVED).read_bytes())
        for name in saved["containers"]:
            machine.host.release(holder(saved["namespace"], saved["name"], directory.name, name))
    shutil.rmtree(directory, ignore_errors=True)
