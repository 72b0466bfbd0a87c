"""The simulation's side of the port: one operator process as it sees the modelled server, with whatever goes wrong.

What it knows of nodes is a store like the informer's: it may lag, but never behind its own writes, and a LIST replaces it.
"""

from dataclasses import dataclass, field, replace

from reconciler.core.actions import (
    Action,
    ApplyKeeper,
    CreatePod,
    DeletePod,
    EvictPod,
    Outcome,
    RenewLease,
    ScanNodes,
    TakeLease,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.node.fence import foreign_reserved
from reconciler.core.node.memory import absorb
from reconciler.core.world import LeaseView, NodeView, PodView, Settings, Term, World
from reconciler.simulation.faults import Faults
from reconciler.simulation.server import Server

UNKNOWN = Outcome(verb=Verb.UNKNOWN, code=0, message="time-out")


class Crashed(Exception):  # noqa: N818  an event of the simulation
    """The operator process dies here."""


@dataclass(slots=True, kw_only=True)
class SimulatedCluster:
    """One operator process. Implements `reconciler.loop.Cluster`."""

    server: Server
    settings: Settings
    term: Term
    faults: Faults
    held: str = ""
    trace: list[Action] = field(default_factory=list)
    _nodes: dict[str, NodeView] = field(default_factory=dict)
    _lease: tuple[int, float] = (-1, 0.0)

    async def snapshot(self) -> World:
        server = self.server
        self._refresh(every=False)
        now = server.agenda.now
        if self._lease[0] != server.lease_version:
            self._lease = (server.lease_version, now)
        pods: dict[str, list[PodView]] = {}
        for pod in server.pods.values():
            pods.setdefault(pod.node, []).append(pod)
        return World(
            policies=dict(server.policies),
            nodes=dict(self._nodes),
            pods={node: tuple(found) for node, found in pods.items()},
            lease=LeaseView(
                resource_version=str(server.lease_version) if server.lease_version else None,
                holder=server.lease_holder,
                unchanged_for_s=now - self._lease[1],
            ),
            term=self.term,
            settings=self.settings,
            held=self.held,
            keeper=server.keeper,
        )

    async def act(self, action: Action) -> Outcome:
        self.trace.append(action)
        fate = self.faults.fate(action)
        if fate == "refused":
            return UNKNOWN
        if fate == "crash before":
            raise Crashed
        outcome = self._send(action)
        if fate == "crash after":
            raise Crashed
        if fate == "unanswered":
            return UNKNOWN
        if isinstance(action, WriteNode) and outcome.verb is Verb.DONE:
            self._nodes[action.node] = self.server.nodes[action.node]
        return outcome

    def absorb(self, action: Action, outcome: Outcome, now: float) -> None:
        self.term = absorb(self.term, action, outcome, now)

    def _send(self, action: Action) -> Outcome:
        server = self.server
        match action:
            case WriteNode():
                return server.write_node(action)
            case TakeLease() | RenewLease():
                return server.write_lease(action)
            case ScanNodes():
                return self._scan()
            case CreatePod():
                return server.create(action, self.settings.namespace)
            case EvictPod():
                return self.faults.eviction() or server.evict(action, self.faults.grace_s())
            case DeletePod():
                return server.delete(action, self.faults.grace_s())
            case WriteStatus():
                return server.write_status(action)
            case ApplyKeeper():
                server.keeper = action.template_hash
                return Outcome(verb=Verb.DONE, code=200)

    def _scan(self) -> Outcome:
        """A quorum LIST: it replaces the store, whatever was known."""
        self._refresh(every=True)
        world = World(
            policies={},
            nodes=self._nodes,
            pods={},
            lease=LeaseView(resource_version=None, holder="", unchanged_for_s=0),
            term=self.term,
            settings=self.settings,
        )
        return Outcome(verb=Verb.DONE, code=200, foreign_reserved=foreign_reserved(world))

    def _refresh(self, *, every: bool) -> None:
        """Watch events: all that are due, or all but those of the nodes that lag."""
        server = self.server
        for name in tuple(self._nodes):
            if name not in server.nodes:
                del self._nodes[name]
        for name, node in server.nodes.items():
            known = self._nodes.get(name)
            if known is None or every or (known is not node and not self.faults.lags()):
                self._nodes[name] = node


def restarted(cluster: SimulatedCluster, identity: str) -> SimulatedCluster:
    """The same operator after a crash: it has forgotten everything."""
    return SimulatedCluster(
        server=cluster.server,
        settings=cluster.settings,
        term=Term(identity=identity),
        faults=replace(cluster.faults),
        held=cluster.held,
        trace=cluster.trace,
    )
