"""Budgets: how many nodes of a group may be unavailable, for any reason, before a further one may start (S1)."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.world import NodeView, World
from schema.names import ANNOTATION_TXN
from schema.policy import Budget

OWN_LIMIT = 1  # a ttdp without budgets: one node of its own at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One budget.

    Attributes:
        limit: the smallest number that any ttdp gives for it.
        members: nodes of all ttdps that carry it.
        unavailable: members that cannot take work now.
    """

    name: str
    limit: int
    members: frozenset[str]
    unavailable: frozenset[str]

    @property
    def free(self) -> int:
        return self.limit - len(self.unavailable)


def budgets_of(policy: str, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """Budgets of a ttdp; without any, one node of its own."""
    return budgets or (Budget(group=f"ttdp/{policy}", max_unavailable=OWN_LIMIT),)


def unavailable(world: World, node: NodeView) -> bool:
    """A record of any phase (readable or not), a cordon of anybody, NotReady, or a reservation not yet seen."""
    return (
        node.record is not None
        or ANNOTATION_TXN in node.annotations
        or node.unschedulable
        or not node.ready
        or node.name in world.term.reservations
    )


def groups(world: World, matched: Mapping[str, tuple[str, ...]]) -> dict[str, Group]:
    """Every group that a readable ttdp carries, by name.

    A node whose record names the ttdp counts there to its end, also when the selector has lost it meanwhile.
    """
    recorded: dict[str, set[str]] = {}
    for node in world.nodes.values():
        if node.record is not None:
            recorded.setdefault(node.record.cr, set()).add(node.name)
    limits: dict[str, int] = {}
    members: dict[str, set[str]] = {}
    for policy in world.policies.values():
        if policy.spec_fault or policy.deleting:
            continue
        for budget in budgets_of(policy.name, policy.spec.budgets):
            limits[budget.group] = min(
                limits.get(budget.group, budget.max_unavailable), budget.max_unavailable
            )
            found = members.setdefault(budget.group, set())
            found.update(matched[policy.name], recorded.get(policy.name, ()))
    away = {node.name for node in world.nodes.values() if unavailable(world, node)}
    return {
        name: Group(
            name=name,
            limit=limit,
            members=frozenset(members[name]),
            unavailable=frozenset(members[name] & away),
        )
        for name, limit in limits.items()
    }


class Slots:
    """What is left of every budget while one tick admits several nodes."""

    def __init__(self, found: Mapping[str, Group]) -> None:
        self._groups = found
        self._left = {name: group.free for name, group in found.items()}

    def taken(self, node: str, names: tuple[str, ...]) -> Group | None:
        """The first budget that has no room for this node; None if all have."""
        for name in names:
            itself = node in self._groups[name].unavailable  # its own reservation, not seen on the node (yet)
            if self._left[name] + itself < 1:
                return self._groups[name]
        return None

    def take(self, node: str) -> None:
        """Count the node in every group that it is a member of."""
        for name, group in self._groups.items():
            if node in group.members and node not in group.unavailable:
                self._left[name] -= 1
