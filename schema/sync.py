"""FleetSync as values: which repository a cluster follows. schema/crds/fleetsync.yaml is the served form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

DEFAULT_INTERVAL_S = 60.0
DEFAULT_REF = "main"
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class SyncMode(StrEnum):
    """Observe plans and reports; Enforce applies."""

    OBSERVE = "Observe"
    ENFORCE = "Enforce"


class WaveState(StrEnum):
    """`status.waves[].state`, for the present plan."""

    CLOSED = "Closed"
    OPEN = "Open"
    DONE = "Done"


class SyncReason(StrEnum):
    """Reasons of a FleetSync's conditions. Under every one of Stalled nothing is written but the status."""

    APPLIED = "Applied"  # Ready: every wave is done
    PROGRESSING = "Progressing"  # Reconciling
    OBSERVING = "Observing"  # the plan is reported, not applied
    SUSPENDED = "Suspended"  # spec.suspend or the hold annotation
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_REFUSED = "SourceRefused"
    SOURCE_EMPTY = "SourceEmpty"
    NOT_FAST_FORWARD = "NotFastForward"
    VALIDATION_FAILED = "ValidationFailed"
    NO_MATCHING_NODES = "NoMatchingNodes"
    GUARD_REFUSED = "GuardRefused"
    NAME_TAKEN = "NameTaken"  # a ttdp of somebody else has the name of one that we would render
    CLUSTER_UID_MISMATCH = "ClusterUidMismatch"
    CONFLICT = "Conflict"  # an older FleetSync counts


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSpec:
    """`spec` of a FleetSync; exactly one of `url` and `path` is set."""

    url: str = ""
    path: str = ""
    ref: str = DEFAULT_REF
    cluster: str = ""
    interval_s: float = DEFAULT_INTERVAL_S
    secret: str = ""
    suspend: bool = False
    mode: SyncMode = SyncMode.OBSERVE
    prune: bool = True

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> Self:
        return cls(
            url=spec.get("url", ""),
            path=spec.get("path", ""),
            ref=spec.get("ref", DEFAULT_REF),
            cluster=spec.get("cluster", ""),
            interval_s=duration_s(spec["interval"]) if "interval" in spec else DEFAULT_INTERVAL_S,
            secret=(spec.get("secretRef") or {}).get("name", ""),
            suspend=spec.get("suspend", False),
            mode=SyncMode(spec.get("mode", SyncMode.OBSERVE)),
            prune=spec.get("prune", True),
        )


def duration_s(text: str) -> float:
    """`1h30m`, `45s` in seconds; at least 1.

    Raises:
        ValueError: no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration such as 1m30s")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return max(1.0, hours * 3600.0 + minutes * 60.0 + seconds)
