"""HostFacts: what a machine says of itself, in the node annotation `host-facts` (JSON, at most 8,192 bytes).

They change only with boot, kernel, what is installed, staged, or registered with DKMS: never with the refcount or with
holders, or every idle node would write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class HostMode(StrEnum):
    """Who owns the module now, by what is on the machine."""

    HOST = "host"  # a DKMS signal exists
    CONTAINER = "container"  # active.json names the module, no DKMS signal
    ABSENT = "absent"  # neither
    TRANSITIONING = "transitioning"  # a journal entry is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The live module: `/sys/module/tenstorrent/{version,srcversion}`."""

    version: str
    srcversion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A verified `.ko` in the cache, for one kernel. `commit` is None for an adopted module (source unknown)."""

    version: str
    kernel: str
    build_id: str
    srcversion: str
    sha256: str
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """One machine, one boot.

    Attributes:
        boot_id: `/proc/sys/kernel/random/boot_id`.
        kernel: `uname -r`.
        build_id: hex of the GNU build id in `/sys/kernel/notes`.
        loaded: the live module, None when there is none.
        active: what `active.json` names, to be loaded at boot; None when nothing is.
        staged: verified modules, sorted by (kernel, version).
        dkms_versions: registered or left dangling in `/var/lib/dkms/tenstorrent`, sorted.
        dkms_package: `tenstorrent-dkms` as dpkg or rpm sees it (`ii 2.7.0`), None when there is none.
        vacated: a vacate has run on this machine (vacated.json).
        open_verb: verb of the open journal entry.
        last: id of the last transaction that the host closed, and when (RFC 3339).
        problems: closed list of `schema.states.Reason` values that keep modules from being loaded here.
    """

    boot_id: str
    kernel: str
    build_id: str
    mode: HostMode
    loaded: Loaded | None = None
    active: Staged | None = None
    staged: tuple[Staged, ...] = ()
    dkms_versions: tuple[str, ...] = ()
    dkms_package: str | None = None
    vacated: bool = False
    open_verb: str | None = None
    last_id: str | None = None
    last_at: str | None = None
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "bootID": self.boot_id,
            "kernel": self.kernel,
            "buildID": self.build_id,
            "mode": str(self.mode),
            "loaded": _module(self.loaded) if self.loaded else None,
            "active": _module(self.active) if self.active else None,
            "staged": [_module(entry) for entry in self.staged],
            "dkms": {"versions": list(self.dkms_versions), "package": self.dkms_package},
            "vacated": self.vacated,
            "open": self.open_verb,
            "last": {"id": self.last_id, "at": self.last_at} if self.last_id else None,
            "problems": list(self.problems),
        }
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: not facts of this version.
        """
        last = data["last"] or {}
        return cls(
            boot_id=data["bootID"],
            kernel=data["kernel"],
            build_id=data["buildID"],
            mode=HostMode(data["mode"]),
            loaded=Loaded(**data["loaded"]) if data["loaded"] else None,
            active=_staged(data["active"]) if data["active"] else None,
            staged=tuple(_staged(entry) for entry in data["staged"]),
            dkms_versions=tuple(data["dkms"]["versions"]),
            dkms_package=data["dkms"]["package"],
            vacated=data["vacated"],
            open_verb=data["open"],
            last_id=last.get("id"),
            last_at=last.get("at"),
            problems=tuple(data["problems"]),
        )


def _module(module: Loaded | Staged) -> dict[str, Any]:
    pairs = {
        "version": module.version,
        "srcversion": module.srcversion,
        "kernel": getattr(module, "kernel", None),
        "buildID": getattr(module, "build_id", None),
        "sha256": getattr(module, "sha256", None),
        "commit": getattr(module, "commit", None),
    }
    return {key: value for key, value in pairs.items() if value is not None}


def _staged(data: Mapping[str, Any]) -> Staged:
    return Staged(
        version=data["version"],
        kernel=data["kernel"],
        build_id=data["buildID"],
        srcversion=data["srcversion"],
        sha256=data["sha256"],
        commit=data.get("commit"),
    )
