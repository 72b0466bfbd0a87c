"""Where a fleet is: `ttfleet status`. From the FleetSync's and the policies' status, as data and as a compact text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from reconciler.core.world import NodeView, PolicyView
from reconciler.report.plans import table
from schema.names import LABEL_POOL, LABEL_WAVE
from schema.states import IN_PROGRESS, NodeState
from schema.transaction import Result

_HEAD: Final = ("POOL", "WAVE", "DONE", "NOW", "STATE")
_NONE: Final = "–"
_SHOWN_NODES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What is looked at: one FleetSync as served, the policies, the nodes."""

    sync: Mapping[str, Any] | None
    policies: Sequence[PolicyView]
    nodes: Sequence[NodeView]

    def to_json(self) -> dict[str, Any]:
        status = (self.sync or {}).get("status", {})
        return {
            "fleetSync": _sync(self.sync),
            "waves": [{**wave, "now": self._now(wave)} for wave in status.get("waves", ())],
            "policies": [_policy(policy) for policy in self.policies],
            "unavailable": self._unavailable(),
            "notDone": [*self._not_done()],
            "outageSeconds": self._outages(),
        }

    def _now(self, wave: Mapping[str, Any]) -> list[str]:
        """Nodes of a wave with an open transaction: `node state`."""
        mine = [
            policy
            for policy in self.policies
            if policy.labels.get(LABEL_POOL) == wave["pool"] and policy.labels.get(LABEL_WAVE) == wave["name"]
        ]
        return [
            f"{entry['name']} {entry['state']}"
            for policy in mine
            for entry in _entries(policy)
            if entry.get("state") in IN_PROGRESS
        ]

    def _unavailable(self) -> dict[str, int | None]:
        managed = {entry["name"] for policy in self.policies for entry in _entries(policy)}
        nodes = [node for node in self.nodes if node.name in managed]
        budgets = [budget for policy in self.policies for budget in policy.spec.budgets]
        return {
            "nodes": len(nodes),
            "unavailable": sum(node.unschedulable or not node.ready for node in nodes),
            "ours": sum(node.record is not None for node in nodes),
            "budget": min((budget.max_unavailable for budget in budgets), default=None),
        }

    def _not_done(self) -> Iterator[dict[str, str]]:
        """Nodes that are Blocked, Failed or Held, each with its reason."""
        shown = {NodeState.BLOCKED, NodeState.FAILED, NodeState.HELD, NodeState.OFFLINE}
        for policy in self.policies:
            for entry in _entries(policy):
                if entry.get("state") in shown:
                    keys = ("name", "state", "reason", "message")
                    yield {key: str(entry[key]) for key in keys if entry.get(key)}

    def _outages(self) -> dict[str, float] | None:
        latest = [node.history.latest for node in self.nodes]
        outages = [
            one.outage_s for one in latest if one and one.result is Result.OK and one.outage_s is not None
        ]
        return {"median": median(outages), "max": max(outages)} if outages else None


def overview_text(overview: Overview) -> str:
    """The compact table."""
    return "\n".join((*_text(overview.to_json()), ""))


def _text(data: Mapping[str, Any]) -> Iterator[str]:
    yield _head(data["fleetSync"])
    waves = [_wave(wave) for wave in data["waves"]]
    rows = waves or [_by_policy(policy) for policy in data["policies"]]
    if rows:
        yield from table((_HEAD, *rows))
    count = data["unavailable"]
    if count["nodes"]:
        budget = f", budget {count['budget']}" if count["budget"] is not None else ""
        yield f"unavailable {count['unavailable']} of {count['nodes']}{budget} ({count['ours']} ours)"
    for node in data["notDone"]:
        yield f"{node['state'].upper()} {node['name']}  {node.get('reason', '')} {node.get('message', '')}".rstrip()
    if data["outageSeconds"]:
        yield f"outage  median {data['outageSeconds']['median']:.1f} s, max {data['outageSeconds']['max']:.1f} s"


def _head(sync: Mapping[str, Any] | None) -> str:
    if sync is None:
        return "no FleetSync in this cluster"
    ref = (
        f"{sync['ref']}@{sync['revision'][:12]}"
        if sync["revision"]
        else f"{sync['ref']}, nothing applied yet"
    )
    plan = f"  plan {sync['plan']}" if sync["plan"] else ""
    cluster = f"{sync['cluster']}  " if sync["cluster"] else ""
    ready = f"{sync['reason']}: {sync['message']}" if sync["reason"] else "not looked at yet"
    return f"{cluster}{ref}  {sync['mode']}{plan}\n{ready}"


def _sync(sync: Mapping[str, Any] | None) -> dict[str, str] | None:
    if sync is None:
        return None
    spec, status = sync.get("spec", {}), sync.get("status", {})
    ready: Mapping[str, Any] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return {
        "name": sync["metadata"]["name"],
        "cluster": spec.get("cluster", ""),
        "source": spec.get("url") or spec.get("path", ""),
        "ref": spec.get("ref", "main") if spec.get("url") else spec.get("path", ""),
        "mode": spec.get("mode", "Observe"),
        "revision": status.get("lastAppliedRevision", ""),
        "attempted": status.get("lastAttemptedRevision", ""),
        "plan": status.get("plan", ""),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
    }


def _policy(policy: PolicyView) -> dict[str, Any]:
    states = [entry.get("state") for entry in _entries(policy)]
    return {
        "name": policy.name,
        "version": policy.spec.version,
        "waiting": policy.spec.waiting,
        "nodes": len(states),
        "done": states.count(NodeState.DONE),
        "now": [f"{e['name']} {e['state']}" for e in _entries(policy) if e.get("state") in IN_PROGRESS],
    }


def _wave(wave: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(wave["state"]).lower()
    failed = f", {wave['failed']} failed" if wave.get("failed") else ""
    waits = f", waits for {wave['message']}" if wave.get("message") else ""
    return (
        wave["pool"],
        wave["name"],
        f"{wave['done']}/{wave['nodes']}",
        _shown(wave["now"]),
        f"{state}{failed}{waits}",
    )


def _by_policy(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Without a FleetSync policies are all there is: applied by hand, or by `ttfleet apply`."""
    state = "closed" if policy["waiting"] else "open"
    return (policy["name"], _NONE, f"{policy['done']}/{policy['nodes']}", _shown(policy["now"]), state)


def _shown(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - _SHOWN_NODES} more" if len(nodes) > _SHOWN_NODES else ""
    return ", ".join(nodes[:_SHOWN_NODES]) + more if nodes else _NONE


def _entries(policy: PolicyView) -> list[Mapping[str, Any]]:
    """`status.nodes[]`."""
    entries = policy.status.get("nodes")
    return [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, Iterable) else []
