"""Workloads of a modelled cluster: deployments under disruption budgets, and a gated DaemonSet that reads devices."""

from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from reconciler.core.world import NodeView, PodView
from reconciler.simulation.server import Change, Server
from schema.names import DEPLOY_GATE_CLOSED, DEPLOY_GATE_TELEMETRY, LABEL_KMD_VERSION

GRACE_S = (1.0, 8.0)


@dataclass(slots=True, kw_only=True)
class Workload:
    """A deployment: evicted pods come up elsewhere. `max_unavailable` None = no disruption budget."""

    name: str
    replicas: int
    uses_device: bool = True
    max_unavailable: int | None = 1


@dataclass(slots=True)
class Workloads:
    """Controllers and scheduler in one; all of it in virtual time."""

    server: Server
    random: Random
    deployments: dict[str, Workload] = field(default_factory=dict)
    gated: bool = False
    _names: Any = field(default_factory=lambda: count(1))

    def connect(self) -> None:
        self.server.removed.append(self._gone)
        self.server.changed.append(self._gate)
        self.server.disruption = self.allowed

    def deploy(self, workload: Workload) -> None:
        self.deployments[f"ReplicaSet/{workload.name}"] = workload
        for _ in range(workload.replicas):
            self._place(workload, ready=True)

    def telemetry(self) -> None:
        """One gated pod a node, which holds the device until its gate closes."""
        self.gated = True
        for node in tuple(self.server.nodes.values()):
            self._telemetry(node)

    def allowed(self, pod: PodView) -> int | None:
        workload = self.deployments.get(pod.owner)
        if workload is None or workload.max_unavailable is None:
            return None
        ready = sum(1 for p in self.server.pods.values() if p.owner == pod.owner and p.ready)
        return ready - (workload.replicas - workload.max_unavailable)

    def _place(self, workload: Workload, *, ready: bool = False) -> None:
        """Schedule a pod on the emptiest node that takes work; try again in a while when there is none."""
        nodes = [node for node in self.server.nodes.values() if self._takes(node, workload)]
        if not nodes:
            self.server.agenda.after(3.0, lambda: self._place(workload))
            return
        load = {node.name: 0 for node in nodes}
        for pod in self.server.pods.values():
            if pod.node in load:
                load[pod.node] += 1
        node = min(load, key=lambda name: (load[name], name))
        pod = self.server.add(
            name=f"{workload.name}-{next(self._names)}",
            node=node,
            owner=f"ReplicaSet/{workload.name}",
            uses_device=workload.uses_device,
            phase="Running" if ready else "Pending",
            ready=ready,
        )
        if not ready:
            self.server.agenda.after(self.random.uniform(1, 3), lambda: self._up(pod.uid))

    def _up(self, uid: str) -> None:
        pod = self.server.pods.get(uid)
        if pod is not None and not pod.terminating and self.server.nodes[pod.node].ready:
            self.server.set_pod(uid, phase="Running", ready=True)
        elif pod is not None and not pod.terminating:
            self.server.agenda.after(5.0, lambda: self._up(uid))

    def _takes(self, node: NodeView, workload: Workload) -> bool:
        able = node.ready and not node.unschedulable
        return able and (not workload.uses_device or LABEL_KMD_VERSION in node.labels)

    def _gone(self, pod: PodView) -> None:
        workload = self.deployments.get(pod.owner)
        if workload is not None:
            self.server.agenda.after(self.random.uniform(0.2, 1), lambda: self._place(workload))
        elif pod.daemonset and pod.node in self.server.nodes:
            self._telemetry(self.server.nodes[pod.node])

    def _gate(self, change: Change) -> None:
        """The DaemonSet controller follows the gate label."""
        before = change.before.labels.get(DEPLOY_GATE_TELEMETRY)
        after = change.after.labels.get(DEPLOY_GATE_TELEMETRY)
        if before == after:
            return
        if after == DEPLOY_GATE_CLOSED:
            for pod in tuple(self.server.pods.values()):
                if pod.node == change.after.name and pod.daemonset:
                    self.server.agenda.after(0.5, lambda uid=pod.uid: self._leave(uid))  # type: ignore[misc]
        elif self.gated:
            self._telemetry(change.after)

    def _leave(self, uid: str) -> None:
        if uid in self.server.pods:
            self.server.terminate(uid, self.random.uniform(*GRACE_S))

    def _telemetry(self, node: NodeView) -> None:
        if node.labels.get(DEPLOY_GATE_TELEMETRY) == DEPLOY_GATE_CLOSED:
            return
        self.server.add(
            name=f"telemetry-{next(self._names)}",
            node=node.name,
            owner="DaemonSet/telemetry",
            daemonset=True,
            gated=True,
            uses_device=True,
            phase="Running",
            ready=True,
        )
