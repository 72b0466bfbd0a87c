"""Scene: one look at the world with what every decision needs worked out once, and the answer for one node."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf

from reconciler.core.actions import Action, NodeReport
from reconciler.core.node.assignment import Assignment, assign, matched
from reconciler.core.node.budget import Group, groups
from reconciler.core.world import NodeView, PodRole, PodView, World
from schema.states import NodeState, Reason


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A world at a moment. `now` is POSIX seconds."""

    world: World
    now: float

    @cached_property
    def assignments(self) -> Mapping[str, Assignment]:
        return assign(self.world, self.matched)

    @cached_property
    def matched(self) -> Mapping[str, tuple[str, ...]]:
        return matched(self.world)

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        return groups(self.world, self.matched)

    def pods(self, node: str) -> tuple[PodView, ...]:
        return self.world.pods.get(node, ())

    def workers(self, node: str, txn_id: str) -> list[PodView]:
        """Worker pods of a transaction, first attempt first."""
        found = (pod for pod in self.pods(node) if pod.role is PodRole.SWAP and pod.txn_id == txn_id)
        return sorted(found, key=lambda pod: pod.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What is to be done on one node now, and how people see it.

    Attributes:
        actions: at most one of them writes the node.
        wake_s: seconds after which the answer may change by itself.
        starts: the node could be reserved now if a slot were free.
    """

    state: NodeState
    reason: Reason | None = None
    message: str = ""
    actions: tuple[Action, ...] = ()
    wake_s: float = inf
    starts: bool = False

    def report(self, node: NodeView, cr: str) -> NodeReport:
        loaded = node.facts.loaded if node.facts else None
        return NodeReport(
            node=node.name,
            cr=cr,
            state=str(self.state),
            reason=str(self.reason or ""),
            message=self.message,
            current_version=loaded.version if loaded else "",
        )
