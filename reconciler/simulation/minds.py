"""Minds: the two operators of the proof. What they see is built as a World, and the product's own code decides.

`operate` and `absorb` are called as they are, and memoised by what they see. Of a decision only what touches nodes,
Lease and worker pods is kept; times are made `NOW` again, so that a decision taken late is the same write.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.core.actions import (
    Action,
    CreatePod,
    Outcome,
    RenewLease,
    ScanNodes,
    Step,
    TakeLease,
    Unset,
    Verb,
    WriteNode,
)
from reconciler.core.node.memory import absorb
from reconciler.core.node.operate import keeper_hash, operate
from reconciler.core.world import (
    CordonOwner,
    LeaseView,
    NodeView,
    PodRole,
    PodView,
    PolicyView,
    Settings,
    Term,
    World,
)
from reconciler.simulation.model import COMMITS, CURRENT, DAY_S, NEW, NOW, OLD, STALE, STAMP, Node, Pod, Setup
from reconciler.simulation.removed import Guards
from schema.clock import format_rfc3339
from schema.facts import HostFacts, HostMode, Loaded, Staged
from schema.names import ANNOTATION_CORDONED_BY, LABEL_PRESENT
from schema.policy import Budget, PolicySpec, Source
from schema.transaction import Attempt, History, Phase, Record, Result
from schema.verdict import Verdict

BACK_OFF = format_rfc3339(NOW + 31)
POLICY = "p"
SETTINGS = Settings(namespace="t", image="builder")
STAGED = tuple(
    Staged(version=version, kernel="k", build_id="b", srcversion=version, sha256="", commit=commit)
    for version, commit in sorted(COMMITS.items())
)
ACTIVE = {entry.version: entry for entry in STAGED}


@dataclass(frozen=True, slots=True)
class Write:
    """A WriteNode without versions, times and texts: what it does to a Node of the model."""

    node: int
    step: Step
    record: Record | Unset | None
    clears_claim: bool
    history: History | Unset
    cordon: bool | Unset


@dataclass(frozen=True, slots=True)
class Deed:
    """An action of a decision, and what it does in the model (a Write, a Pod to create, or the Lease)."""

    action: Action
    does: Write | Pod | str  # "take" | "renew" | "scan"
    node: int = -1


def node_name(index: int) -> str:
    return f"n{index}"


class Mind:
    """The product's decider, as it sees the model."""

    def __init__(self, setup: Setup, guards: Guards) -> None:
        self._setup = setup
        self._guards = guards
        self._policies = {version: self._policy(version) for version in COMMITS}
        self.calls = 0

    def decide(
        self,
        term: Term,
        wanted: str,
        nodes: tuple[Node, ...],
        pods: tuple[tuple[Pod, ...], ...],
        *,
        late: bool,
        last: int,
    ) -> Iterator[tuple[Deed, bool]]:
        """What `operate` wants now; with each deed whether the version it carries is the current one.

        `late`: a day after everything that is stored, or right after it. `last`: the node that comes last, as if this
        operator ran there; it makes the order of nodes arbitrary.
        """
        self.calls += 1
        now = NOW + DAY_S if late else NOW
        world = self._world(term, wanted, nodes, pods, now)
        world = replace(world, settings=replace(SETTINGS, own_node=node_name(last)))
        for action in operate(world, now).actions:
            view = world.nodes.get(getattr(action, "node", ""))
            if not self._guards.wants(world.term, view, action):
                continue
            deed = self._deed(action)
            if deed is not None:
                yield deed, getattr(action, "resource_version", CURRENT) == CURRENT

    def absorbs(self, term: Term, deed: Deed, verb: Verb, foreign: tuple[str, ...] = ()) -> Term:
        """The product's memory after an act; versions it got are current."""
        outcome = Outcome(verb=verb, resource_version=CURRENT, foreign_reserved=foreign)
        return self._guards.remembers(absorb(term, deed.action, outcome, NOW))

    def foreign(self, term: Term, nodes: tuple[Node, ...]) -> tuple[str, ...]:
        """What a LIST finds: reservations that this term did not write."""
        if not self._guards.lists:
            return ()
        reserved = (
            (node_name(index), node.record.id)
            for index, node in enumerate(nodes)
            if node.record is not None and node.record.phase is Phase.RESERVED
        )
        own = term.reservations
        return tuple(name for name, txn in reserved if name not in own or own[name].id != txn)

    def _world(
        self,
        term: Term,
        wanted: str,
        nodes: tuple[Node, ...],
        pods: tuple[tuple[Pod, ...], ...],
        now: float,
    ) -> World:
        views = {node_name(index): self._guards.sees(_view(index, node)) for index, node in enumerate(nodes)}
        return World(
            policies={POLICY: self._policies[wanted]},
            nodes=views,
            pods={node_name(i): _pod_views(i, nodes[i], found) for i, found in enumerate(pods)},
            lease=LeaseView(resource_version=CURRENT, holder="other", unchanged_for_s=DAY_S),
            term=replace(term, renewed_at=now),
            settings=SETTINGS,
            keeper=keeper_hash(SETTINGS),
        )

    def _policy(self, version: str) -> PolicyView:
        spec = PolicySpec(
            version=version,
            source=Source(repository="r", commit=COMMITS[version]),
            budgets=(Budget(group="all", max_unavailable=self._setup.budget),),
        )
        return PolicyView(
            name=POLICY,
            uid="u",
            resource_version=CURRENT,
            generation=1,
            labels={},
            annotations={},
            spec=spec,
            status={},
        )

    def _deed(self, action: Action) -> Deed | None:
        match action:
            case TakeLease():
                return Deed(action, "take")
            case RenewLease():
                return Deed(action, "renew")
            case ScanNodes():
                return Deed(action, "scan")
            case WriteNode():
                return self._write(action)
            case CreatePod() if action.role is PodRole.SWAP:
                pod = Pod(action.txn_id, action.target.version or "", int(action.boot_id), action.attempt)
                return Deed(action, pod, int(action.node[1:]))
            case _:
                return None

    def _write(self, action: WriteNode) -> Deed:
        history = action.history
        if isinstance(history, History):
            history = _plain(history)
        record = action.record
        if isinstance(record, Record):
            record = replace(record, since=STAMP, reserved=STAMP)
        index = int(action.node[1:])
        write = Write(index, action.step, record, action.claim is None, history, action.unschedulable)
        return Deed(action, write, index)


def key_of(deed: Deed) -> object:
    """What tells deeds apart: actions carry mappings and times, which have no say here."""
    match deed.does:
        case Write():
            return deed.does
        case Pod():
            return deed.node, deed.does
        case "renew":
            assert isinstance(deed.action, RenewLease)
            return "renew", deed.action.covers
        case _:
            return deed.does


def term_key(term: Term) -> object:
    own = tuple((n, r.id, r.resource_version, r.fenced) for n, r in sorted(term.reservations.items()))
    return term.lease_version, term.clean, own


def applied(node: Node, write: Write) -> Node:
    """The node after a write that the server took."""
    cordon = node.cordon
    if write.cordon is True:
        cordon = CordonOwner.OURS if cordon is CordonOwner.NOBODY else cordon
    elif write.cordon is False:
        cordon = CordonOwner.NOBODY
    return replace(
        node,
        cordon=cordon,
        record=node.record if isinstance(write.record, Unset) else write.record,
        claim=None if write.clears_claim else node.claim,
        history=node.history if isinstance(write.history, Unset) else write.history,
    )


def without_node_version(term: Term, node: str) -> Term:
    """Somebody wrote the node: the version that our reservation returned is stale."""
    own = term.reservations.get(node)
    if own is None or own.resource_version == STALE:
        return term
    return replace(term, reservations={**term.reservations, node: replace(own, resource_version=STALE)})


def without_lease_version(term: Term) -> Term:
    """Somebody wrote the Lease."""
    return replace(term, lease_version=STALE) if term.lease_version == CURRENT else term


def _plain(history: History) -> History:
    latest = history.latest
    if latest is not None:
        latest = Attempt(
            at=STAMP,
            plan="",
            from_=None,
            to=latest.to,
            result=latest.result,
            not_before=BACK_OFF if latest.not_before else None,
            reason=None if latest.result is Result.OK else "Failed",
        )
    return History(latest=latest, serial=history.serial)


def _view(index: int, node: Node) -> NodeView:
    said = node.facts
    return NodeView(
        name=node_name(index),
        uid=node_name(index),
        resource_version=CURRENT,
        labels={LABEL_PRESENT: "true"},
        annotations={ANNOTATION_CORDONED_BY: f"ttfleet/{POLICY}"} if node.cordon is CordonOwner.OURS else {},
        cordon=node.cordon,
        ready=True,
        ready_since=NOW,
        boot_id=str(node.boot),
        record=node.record,
        claim=node.claim,
        history=node.history,
        facts=HostFacts(
            boot_id=str(said.boot),
            kernel="k",
            build_id="b",
            mode=HostMode.TRANSITIONING if said.opened else HostMode.CONTAINER,
            loaded=Loaded(version=said.loaded, srcversion=said.loaded) if said.loaded else None,
            active=ACTIVE[said.active],
            staged=STAGED,
        ),
    )


def _pod_views(index: int, node: Node, pods: tuple[Pod, ...]) -> tuple[PodView, ...]:
    """Worker pods of the open transaction."""
    txn = node.record.id if node.record else None
    return tuple(_pod_view(index, pod) for pod in pods if pod.txn == txn and pod.attempt > 0)


def _pod_view(index: int, pod: Pod) -> PodView:
    verdicts = {
        "refused": Verdict(
            verb="swap", result=Result.REFUSED, changed=False, id=pod.txn, reason="PermitVoid"
        ),
        "ok": Verdict(verb="swap", result=Result.OK, changed=True, id=pod.txn),
    }
    ended = pod.state in {"lost", "refused", "ok"}
    return PodView(
        namespace="t",
        name=f"ttswap-{pod.txn}-{pod.attempt}",
        uid=f"{pod.txn}-{pod.attempt}",
        node=node_name(index),
        role=PodRole.SWAP,
        labels={},
        owner="",
        phase=("Succeeded" if pod.state == "ok" else "Failed") if ended else "Running",
        ready=False,
        terminating=False,
        uses_device=True,
        daemonset=False,
        mirror=False,
        empty_dir=False,
        started_at=NOW,
        finished_at=NOW if ended else 0.0,
        txn_id=pod.txn,
        attempt=pod.attempt,
        verdict=verdicts.get(pod.state),
    )


VERSIONS = (NEW, OLD)
