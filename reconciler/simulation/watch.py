"""Watch: the safety properties of docs/node-transaction.md, judged at every write and every unload of a simulation."""

from dataclasses import dataclass, field

from reconciler.core.actions import Step
from reconciler.core.node.assignment import matched
from reconciler.core.node.budget import groups
from reconciler.core.world import CordonOwner, LeaseView, NodeView, Settings, Term, World
from reconciler.simulation.machines import Machine, Run
from reconciler.simulation.model import Violation
from reconciler.simulation.server import OPERATOR, Change, Server
from schema.facts import HostMode
from schema.names import ANNOTATION_HOLD, ANNOTATION_KEEP_CORDONED, LABEL_SKIP
from schema.transaction import Phase


@dataclass(slots=True)
class Watch:
    """Raises Violation where a property does not hold; counts what people ask about afterwards.

    Attributes:
        most: most nodes that were under a transaction of ours (cordoned) at once.
        claimed: nodes whose cordon a human lifted after the claim (they finish).
    """

    server: Server
    settings: Settings
    most: int = 0
    uncordoned: set[str] = field(default_factory=set)

    def write(self, change: Change) -> None:
        before, after = change.before, change.after
        if change.who == OPERATOR:
            self._foreign_cordon(before, after)
            self._host_managed(after)
        elif before.unschedulable and not after.unschedulable and after.claim is not None:
            self.uncordoned.add(after.name)
        if not after.record:
            self.uncordoned.discard(after.name)
        if change.step is Step.CORDON:
            self._start(after)
        self._ours(after)
        self.most = max(self.most, sum(1 for node in self.server.nodes.values() if working(node)))

    def unload(self, machine: Machine, run: Run) -> None:
        """S4 and S5, right before rmmod."""
        node = self.server.nodes[machine.name]
        record = node.record
        if record is None or record.phase is not Phase.PERMITTED or record.id != run.order.txn_id:
            raise Violation(f"S4 {machine.name}: unload without a live permit")
        if record.boot_id != machine.boot_id:
            raise Violation(f"S4 {machine.name}: unload in another boot")
        if node.cordon is not CordonOwner.OURS and machine.name not in self.uncordoned:
            raise Violation(f"S4 {machine.name}: unload on a node that we have not cordoned")
        if machine.refcnt > 0:
            raise Violation(f"S4 {machine.name}: unload at refcnt {machine.refcnt}")
        target = run.order.target
        if (target.version or "", target.commit) not in machine.staged:
            raise Violation(f"S5 {machine.name}: unload without a verified replacement")

    def _foreign_cordon(self, before: NodeView, after: NodeView) -> None:
        foreign = before.cordon is CordonOwner.FOREIGN
        if foreign and after.cordon is not CordonOwner.FOREIGN:
            raise Violation(f"S2 {after.name}: a foreign cordon is removed")
        kept = ANNOTATION_KEEP_CORDONED in before.annotations
        if kept and before.unschedulable and not after.unschedulable:
            raise Violation(f"S2 {after.name}: uncordoned although keep-cordoned is set")

    def _host_managed(self, after: NodeView) -> None:
        if after.facts is not None and after.facts.mode is HostMode.HOST and after.record is not None:
            raise Violation(f"S11 {after.name}: a host-managed node is worked on")

    def _start(self, node: NodeView) -> None:
        """S1 and S7 at row 4."""
        if LABEL_SKIP in node.labels or ANNOTATION_HOLD in node.annotations:
            raise Violation(f"S7 {node.name}: started under skip or hold")
        world = World(
            policies=self.server.policies,
            nodes=self.server.nodes,
            pods={},
            lease=LeaseView(resource_version=None, holder="", unchanged_for_s=0),
            term=Term(identity="watch"),
            settings=self.settings,
        )
        for group in groups(world, matched(world)).values():
            started = sum(1 for name in group.members if working(self.server.nodes[name]))
            if node.name in group.members and started > group.limit:
                raise Violation(f"S1 {node.name}: {started} of {group.limit} in {group.name}")

    @staticmethod
    def _ours(node: NodeView) -> None:
        if (
            node.cordon is CordonOwner.OURS
            and not working(node)
            and ANNOTATION_KEEP_CORDONED not in node.annotations
        ):
            raise Violation(f"S3 {node.name}: a cordon of ours without its record")


def working(node: NodeView) -> bool:
    """A transaction has started here: Cordoned or Permitted."""
    return node.record is not None and node.record.phase is not Phase.RESERVED
