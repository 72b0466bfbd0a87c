"""What the running kernel says: release, boot, build id, the live module, and what forbids loading one."""

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import Final

from builder.elf import note_build_id
from builder.host import Host
from schema.facts import Loaded
from schema.names import DEVICE_DIRECTORY, DKMS_SIGNALS, MODULE
from schema.states import Reason

SYS_MODULE: Final = f"/sys/module/{MODULE}"
_DRIVER: Final = f"/sys/bus/pci/drivers/{MODULE}"
_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why this kernel takes no module, or not this one."""

    reason: Reason
    message: str


def release(host: Host) -> str:
    """`uname -r`."""
    return host.text("/proc/sys/kernel/osrelease")


def boot_id(host: Host) -> str:
    return host.text("/proc/sys/kernel/random/boot_id")


def build_id(host: Host) -> str:
    """Hex; a kernel that was rebuilt locally keeps its release but not this (host.md, rule 10)."""
    return note_build_id(host.data("/sys/kernel/notes"))


def loaded(host: Host) -> Loaded | None:
    """The module in memory, live or not yet."""
    if not host.exists(SYS_MODULE):
        return None
    return Loaded(
        version=host.text(f"{SYS_MODULE}/version"), srcversion=host.text(f"{SYS_MODULE}/srcversion")
    )


def is_live(host: Host) -> bool:
    return host.text(f"{SYS_MODULE}/initstate") == "live"


def refcnt(host: Host) -> int:
    """0 allows unloading; negative: it is on its way out, or there is none."""
    text = host.text(f"{SYS_MODULE}/refcnt")
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else -1


def parameters(host: Host) -> dict[str, str]:
    """Values of the live module as sysfs shows them; a null string is left out."""
    values = {
        name: host.text(f"{SYS_MODULE}/parameters/{name}") for name in host.names(f"{SYS_MODULE}/parameters")
    }
    return {name: value for name, value in values.items() if value and value != "(null)"}


def bound_cards(host: Host) -> tuple[str, ...]:
    """PCI addresses that the driver serves now. Cards on vfio-pci are not among them and none of ours."""
    return tuple(name for name in host.names(_DRIVER) if _PCI_ADDRESS.fullmatch(name))


def device_nodes(host: Host) -> tuple[str, ...]:
    """Numbered nodes below /dev/tenstorrent; `by-id` and the like do not count."""
    return tuple(name for name in host.names(DEVICE_DIRECTORY) if name.isdigit())


def dkms_signals(host: Host) -> tuple[str, ...]:
    """The seed's detection heuristic: either of these paths makes a node host-managed."""
    found = []
    for pattern in DKMS_SIGNALS:
        top, _, rest = pattern.partition("*")
        if not rest:
            found += [pattern] if host.exists(pattern) else []
            continue
        directory = os.path.dirname(top)  # noqa: PTH120  a host path, not ours
        names = fnmatch.filter(host.names(directory), f"{os.path.basename(top)}*")  # noqa: PTH119
        found += [path for name in names if host.exists(path := f"{directory}/{name}{rest}")]
    return tuple(found)


def obstacles(host: Host, *, signed: bool = False) -> tuple[Obstacle, ...]:
    """What keeps this kernel from loading (or, `modules_disabled`, also from unloading) a module."""
    found = []
    if host.text("/proc/sys/kernel/modules_disabled") == "1":
        found.append(Obstacle(reason=Reason.MODULES_DISABLED, message="kernel.modules_disabled is 1"))
    if MODULE in _blacklisted(host.text("/proc/cmdline")):
        found.append(Obstacle(reason=Reason.MODULE_BLACKLISTED, message=f"module_blacklist= names {MODULE}"))
    if not signed and (why := _wants_signature(host)):
        found.append(Obstacle(reason=Reason.SIGNATURE_REQUIRED, message=why))
    return tuple(found)


def _blacklisted(cmdline: str) -> set[str]:
    lists = (word.partition("=")[2] for word in cmdline.split() if word.startswith("module_blacklist="))
    return {name for text in lists for name in text.split(",")}


def _wants_signature(host: Host) -> str:
    if host.text("/sys/module/module/parameters/sig_enforce") == "Y":
        return "module.sig_enforce is on"
    lockdown = re.search(r"\[(integrity|confidentiality)\]", host.text("/sys/kernel/security/lockdown"))
    return f"kernel lockdown is {lockdown[1]}" if lockdown else ""
