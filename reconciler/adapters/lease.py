"""The operators' Lease: its body, and how long this process has seen it unchanged.

Age is this process's own monotonic observation. The times written into the object are for people and for kubectl only:
two machines' clocks never decide who leads (docs/node-transaction.md, write 1).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.core.world import LeaseView

COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


class LeaseObserver:
    """Remembers since when the Lease has been as it is."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._since_s: float | None = None

    def view(self, lease: Mapping[str, Any] | None, monotonic_s: float) -> LeaseView:
        """What is known now.

        Args:
            lease: the object, None while there is none.
            monotonic_s: a monotonic clock, in seconds.
        """
        version = lease["metadata"]["resourceVersion"] if lease else None
        if self._since_s is None or version != self._version:
            self._version, self._since_s = version, monotonic_s
        holder = (lease.get("spec") or {}).get("holderIdentity") if lease else None
        return LeaseView(
            resource_version=version,
            holder=holder or "",
            unchanged_for_s=monotonic_s - self._since_s,
        )


def lease_body(
    name: str,
    holder: str,
    now: float,
    *,
    duration_s: float,
    resource_version: str | None = None,
    acquire: bool = False,
) -> dict[str, Any]:
    """To create the Lease, or as a merge patch that is refused unless it is still `resource_version`.

    Args:
        name: of the Lease.
        holder: identity, unique per process start.
        now: POSIX seconds, for people.
        duration_s: after which others may take it, for people; they count by their own clock.
        resource_version: precondition; None for the body of a create.
        acquire: a new holder, not a renewal.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata = {"name": name} if resource_version is None else {"resourceVersion": resource_version}
    spec: dict[str, Any] = {
        "holderIdentity": holder,
        "leaseDurationSeconds": max(1, round(duration_s)),
        "renewTime": moment,
    }
    if acquire:
        spec["acquireTime"] = moment
    return {"metadata": metadata, "spec": spec}
