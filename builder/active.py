"""`/var/lib/ttfleet/active.json`: what is to be live on this machine, and loaded at boot; and the marker of one load a boot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from builder.host import Host
from builder.modules import staged_from_json, staged_to_json
from schema.facts import Staged
from schema.names import STATE_DIRECTORY

ACTIVE: Final = f"{STATE_DIRECTORY}/active.json"
MARKER: Final = "/run/ttfleet/load.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The module by version and source (the same across kernels), and the parameters it is loaded with."""

    module: Staged
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What has been done in this boot.

    Attributes:
        live: the module was seen live; if it is gone now, somebody unloaded it and it stays unloaded.
        attempts: loads that failed.
    """

    live: bool = False
    attempts: int = 0


def read_active(host: Host) -> Active | None:
    """None where nothing is active or the file cannot be read."""
    try:
        data = json.loads(host.text(ACTIVE))
        return Active(module=staged_from_json(data["module"]), parameters=dict(data["parameters"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_active(host: Host, active: Active) -> None:
    data = {"module": staged_to_json(active.module), "parameters": dict(active.parameters)}
    host.write(ACTIVE, json.dumps(data, indent=1).encode())


def read_marker(host: Host, boot_id: str) -> Marker:
    """The marker of this boot; a blank one where there is none."""
    try:
        data = json.loads(host.text(MARKER))
        same = data["bootID"] == boot_id
        return Marker(live=data["live"], attempts=data["attempts"]) if same else Marker()
    except (KeyError, TypeError, ValueError):
        return Marker()


def write_marker(host: Host, boot_id: str, marker: Marker) -> None:
    data = {"bootID": boot_id, "live": marker.live, "attempts": marker.attempts}
    host.write(MARKER, json.dumps(data).encode())
