"""A modelled API server: nodes, pods, ttdps and the Lease, with integer resource versions and optimistic locking.

It keeps the views that decisions read instead of JSON; what the real server decides, it decides alike: 409 on a stale
version, who owns a cordon (whoever wrote it last), evictions by disruption budgets, deletion with grace.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from reconciler.core.actions import (
    CreatePod,
    DeletePod,
    EvictPod,
    Outcome,
    RenewLease,
    Step,
    TakeLease,
    Unset,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.world import CordonOwner, NodeView, PodRole, PodView, PolicyView
from reconciler.simulation.clock import Agenda
from schema.names import ANNOTATION_TXN

OPERATOR = "operator"
BUILDER = "builder"
HUMAN = "human"
KUBELET = "kubelet"
CONFLICT = Outcome(verb=Verb.CONFLICT, code=409)
GONE = Outcome(verb=Verb.GONE, code=404)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted write of a Node."""

    before: NodeView
    after: NodeView
    who: str
    step: Step | None = None
    reason: str = ""


@dataclass(slots=True)
class Server:
    """The cluster's state. Everything that changes it goes through its methods.

    Attributes:
        changed: called after each write of a Node.
        started: called when a pod of ours was created on a node.
        removed: called when a pod has gone.
        evicted: called when a pod is told to go, with the verb (`evicts`, `deletes`).
        disruption: how many pods of an owner may go; None where no budget selects them.
    """

    agenda: Agenda
    nodes: dict[str, NodeView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    policies: dict[str, PolicyView] = field(default_factory=dict)
    lease_version: int = 0
    lease_holder: str = ""
    lease_at: float = 0.0
    keeper: str = ""
    version: int = 0
    changed: list[Callable[[Change], None]] = field(default_factory=list)
    started: list[Callable[[PodView], None]] = field(default_factory=list)
    removed: list[Callable[[PodView], None]] = field(default_factory=list)
    evicted: list[Callable[[PodView, str], None]] = field(default_factory=list)
    disruption: Callable[[PodView], int | None] = lambda _: None
    targets: dict[str, CreatePod] = field(default_factory=dict)  # pod uid -> what it was created for
    _uids: Any = field(default_factory=lambda: count(1))

    def stamp(self) -> int:
        """The next resource version."""
        self.version += 1
        return self.version

    # --- nodes --------------------------------------------------------------------------------------------

    def touch(
        self, name: str, who: str, step: Step | None = None, reason: str = "", **changes: Any
    ) -> NodeView:
        """Write fields of a Node, whatever its version."""
        before = self.nodes[name]
        after = replace(before, **changes, resource_version=str(self.stamp()))
        self.nodes[name] = after
        for told in self.changed:
            told(Change(before=before, after=after, who=who, step=step, reason=reason))
        return after

    def cordon(self, name: str, who: str) -> None:
        """`kubectl cordon`: writes nothing on a node that is cordoned already."""
        if self.nodes[name].cordon is CordonOwner.NOBODY:
            self.touch(name, who, cordon=CordonOwner.FOREIGN)

    def uncordon(self, name: str, who: str) -> None:
        if self.nodes[name].cordon is not CordonOwner.NOBODY:
            self.touch(name, who, cordon=CordonOwner.NOBODY)

    def write_node(self, action: WriteNode) -> Outcome:
        """A merge patch with resourceVersion."""
        node = self.nodes.get(action.node)
        if node is None:
            return GONE
        if node.resource_version != action.resource_version:
            return CONFLICT
        changes: dict[str, Any] = {
            name: value
            for name, value in (
                ("record", action.record),
                ("claim", action.claim),
                ("history", action.history),
            )
            if not isinstance(value, Unset)
        }
        if not isinstance(action.unschedulable, Unset):
            changes["cordon"] = self._cordon(node, wanted=action.unschedulable)
        changes["labels"] = _patched(node.labels, action.labels)
        changes["annotations"] = _patched(node.annotations, {**action.annotations, **_txn(action)})
        after = self.touch(action.node, OPERATOR, action.step, action.reason, **changes)
        return Outcome(verb=Verb.DONE, code=200, resource_version=after.resource_version)

    @staticmethod
    def _cordon(node: NodeView, *, wanted: bool) -> CordonOwner:
        if not wanted:
            return CordonOwner.NOBODY
        return CordonOwner.OURS if node.cordon is CordonOwner.NOBODY else node.cordon

    # --- the Lease ----------------------------------------------------------------------------------------

    def write_lease(self, action: TakeLease | RenewLease) -> Outcome:
        if (action.resource_version or "0") != str(self.lease_version):
            return CONFLICT
        self.lease_version = self.stamp()
        self.lease_holder = action.holder
        self.lease_at = self.agenda.now
        return Outcome(verb=Verb.DONE, code=200, resource_version=str(self.lease_version))

    # --- pods ---------------------------------------------------------------------------------------------

    def create(self, action: CreatePod, namespace: str) -> Outcome:
        if any(pod.name == action.name and pod.namespace == namespace for pod in self.pods.values()):
            return Outcome(verb=Verb.DONE, code=409, message="AlreadyExists")
        pod = self.add(
            namespace=namespace,
            name=action.name,
            node=action.node,
            role=action.role,
            uses_device=True,
            txn_id=action.txn_id,
            target_digest=action.target.digest,
            attempt=action.attempt,
        )
        self.targets[pod.uid] = action
        for told in self.started:
            told(pod)
        return Outcome(verb=Verb.DONE, code=201)

    def add(
        self,
        *,
        name: str,
        node: str,
        namespace: str = "work",
        role: PodRole = PodRole.WORKLOAD,
        owner: str = "",
        **fields: Any,
    ) -> PodView:
        """A pod that is there from now on."""
        view = PodView(
            namespace=namespace,
            name=name,
            uid=f"pod-{next(self._uids)}",
            node=node,
            role=role,
            labels={},
            owner=owner,
            phase=fields.pop("phase", "Pending"),
            ready=fields.pop("ready", False),
            terminating=False,
            uses_device=fields.pop("uses_device", False),
            daemonset=fields.pop("daemonset", False),
            mirror=fields.pop("mirror", False),
            empty_dir=False,
            started_at=float(int(self.agenda.now)),  # a kubelet reports whole seconds
            **fields,
        )
        self.pods[view.uid] = view
        self.stamp()
        return view

    def set_pod(self, uid: str, **changes: Any) -> None:
        if uid in self.pods:
            self.pods[uid] = replace(self.pods[uid], **changes)
            self.stamp()

    def remove(self, uid: str) -> None:
        """The kubelet has confirmed that a pod is gone."""
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        self.targets.pop(uid, None)
        self.stamp()
        for told in self.removed:
            told(pod)

    def terminate(self, uid: str, grace_s: float) -> None:
        pod = self.pods[uid]
        if pod.terminating:
            return
        self.set_pod(uid, terminating=True, ready=False)
        self.agenda.after(grace_s, lambda: self.remove(uid))

    def delete(self, action: DeletePod, grace_s: float) -> Outcome:
        pod = self.pods.get(action.uid)
        if pod is None:
            return Outcome(verb=Verb.DONE, code=404)
        self._tell(pod, "deletes")
        self.terminate(pod.uid, grace_s)
        return Outcome(verb=Verb.DONE, code=200)

    def evict(self, action: EvictPod, grace_s: float) -> Outcome:
        """The eviction API: a disruption budget without room answers 429; a terminating pod may always go."""
        pod = self.pods.get(action.uid)
        if pod is None:
            return GONE
        allowed = self.disruption(pod)
        if allowed is not None and allowed < 1 and not pod.terminating and pod.ready:
            return Outcome(
                verb=Verb.REFUSED,
                code=429,
                cause="DisruptionBudget",
                message="the disruption budget allows none",
            )
        if not action.dry_run:
            self._tell(pod, "evicts")
            self.terminate(pod.uid, grace_s)
        return Outcome(verb=Verb.DONE, code=201)

    def _tell(self, pod: PodView, verb: str) -> None:
        for told in self.evicted if not pod.terminating else ():
            told(pod, verb)

    # --- ttdps --------------------------------------------------------------------------------------------

    def apply(self, policy: PolicyView) -> None:
        """Create or change a ttdp; its generation counts changes of the spec."""
        old = self.policies.get(policy.name)
        generation = 1 if old is None else old.generation + (old.spec != policy.spec)
        status = old.status if old else {}
        version = str(self.stamp())
        self.policies[policy.name] = replace(
            policy, generation=generation, status=status, resource_version=version
        )

    def withdraw(self, name: str) -> None:
        if self.policies.pop(name, None):
            self.stamp()

    def write_status(self, action: WriteStatus) -> Outcome:
        policy = self.policies.get(action.policy)
        if policy is None:
            return GONE
        if policy.resource_version != action.resource_version:
            return CONFLICT
        self.policies[action.policy] = replace(
            policy, status=action.status, resource_version=str(self.stamp())
        )
        return Outcome(verb=Verb.DONE, code=200)


def _patched(old: Mapping[str, str], patch: Mapping[str, str | None]) -> Mapping[str, str]:
    if not patch:
        return old
    merged: dict[str, str | None] = {**old, **patch}
    return {key: value for key, value in merged.items() if value is not None}


def _txn(action: WriteNode) -> Mapping[str, str | None]:
    """The record is an annotation: who looks for it as such (budgets) finds it."""
    if isinstance(action.record, Unset):
        return {}
    return {ANNOTATION_TXN: None if action.record is None else "{}"}
