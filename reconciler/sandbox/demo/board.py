"""The board: what the demo shows of every node, read from the API server as anybody could."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.adapters.kube import Kube
from reconciler.sandbox.errors import SandboxError
from schema.names import (
    ANNOTATION_HISTORY,
    ANNOTATION_TXN,
    DRIVER_API_VERSION,
    FLEET_API_VERSION,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_PRESENT,
    LABEL_WAVE,
    POLICY_PLURAL,
    SYNC_PLURAL,
)

POLICIES = f"/apis/{DRIVER_API_VERSION}/{POLICY_PLURAL}"
SYNCS = f"/apis/{FLEET_API_VERSION}/{SYNC_PLURAL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node.

    Attributes:
        version: what the host reports as loaded, "" for none.
        state, reason: from the status of the node's ttdp.
        busy: it carries a record of ours.
        outage_s: seconds without a module at the latest change, None before any.
    """

    node: str
    wave: str = ""
    version: str = ""
    mode: str = ""
    state: str = ""
    reason: str = ""
    cordoned: bool = False
    ready: bool = True
    busy: bool = False
    outage_s: float | None = None

    @property
    def unavailable(self) -> bool:
        return self.cordoned or not self.ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All nodes with a card, by name, and the FleetSync's word on them."""

    rows: tuple[Row, ...] = ()
    revision: str = ""
    ready: bool = False
    message: str = ""

    def settled(self, revision: str) -> bool:
        """The commit is applied, every wave is done, and no node is being worked on."""
        idle = all(row.ready and not row.cordoned and not row.busy for row in self.rows)
        return self.ready and self.revision == revision and idle

    def versions(self) -> dict[str, str]:
        return {row.node: row.version for row in self.rows}


async def look(kube: Kube, sync: str) -> Board:
    """One look at nodes, ttdps and the FleetSync.

    Raises:
        SandboxError: the API server did not answer.
    """
    nodes = await _items(kube, "/api/v1/nodes", labelSelector=f"{LABEL_PRESENT}=true")
    reports = {report["name"]: {**report, "wave": wave} for wave, report in await _reports(kube)}
    answer = await kube.get(f"{SYNCS}/{sync}")
    status = answer.body.get("status", {}) if answer.ok else {}
    condition: Mapping[str, Any] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    fresh = condition.get("observedGeneration", 0) >= answer.body.get("metadata", {}).get("generation", 0)
    return Board(
        rows=tuple(sorted((_row(node, reports) for node in nodes), key=lambda row: row.node)),
        revision=status.get("lastAppliedRevision", ""),
        ready=condition.get("status") == "True" and fresh,
        message=condition.get("message", ""),
    )


async def _reports(kube: Kube) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for policy in await _items(kube, POLICIES):
        wave = policy["metadata"].get("labels", {}).get(LABEL_WAVE, "")
        found += [(wave, report) for report in policy.get("status", {}).get("nodes", ())]
    return found


async def _items(kube: Kube, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await kube.list(path, **query)
    if not answer.ok:
        raise SandboxError(f"{path}: the API server answered {answer.code}: {answer.message}")
    items: list[dict[str, Any]] = answer.body["items"]
    return items


def _row(node: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> Row:
    name = node["metadata"]["name"]
    labels = node["metadata"].get("labels", {})
    annotations = node["metadata"].get("annotations", {})
    report = reports.get(name, {})
    latest = json.loads(annotations.get(ANNOTATION_HISTORY, "{}")).get("latest") or {}
    conditions = node.get("status", {}).get("conditions", ())
    return Row(
        node=name,
        wave=report.get("wave", ""),
        version=labels.get(LABEL_KMD_VERSION, ""),
        mode=labels.get(LABEL_INSTALL_MODE, ""),
        state=report.get("state", ""),
        reason=report.get("reason", ""),
        cordoned=node["spec"].get("unschedulable", False),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        busy=ANNOTATION_TXN in annotations,
        outage_s=latest.get("outage_s"),
    )
