"""Assignment: which ttdps match a node, and which one of them speaks for it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.core.node.targets import asked
from reconciler.core.world import NodeView, PolicyView, World
from schema.names import LABEL_HOSTNAME, LABEL_PRESENT
from schema.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The ttdps of one node, by name.

    Attributes:
        policy: the one that speaks for the node: that of its record, otherwise the first by name.
        target: what that one asks for.
        overlap: the ttdps want different modules here; nothing starts.
    """

    policies: tuple[PolicyView, ...]
    policy: PolicyView
    target: Target
    overlap: bool


def assign(world: World, found: Mapping[str, Iterable[str]]) -> dict[str, Assignment]:
    """Node name -> assignment, for every node that a readable ttdp matches, as `matched` has found them."""
    matches: dict[str, list[PolicyView]] = {}
    for policy in sorted(world.policies.values(), key=lambda policy: policy.name):
        for node in found[policy.name]:
            matches.setdefault(node, []).append(policy)
    return {name: _settle(world, world.nodes[name], tuple(found)) for name, found in matches.items()}


def matched(world: World) -> dict[str, tuple[str, ...]]:
    """Ttdp name -> names of the nodes it matches, sorted."""
    return {policy.name: tuple(sorted(_matched(world, policy))) for policy in world.policies.values()}


def _settle(world: World, node: NodeView, policies: tuple[PolicyView, ...]) -> Assignment:
    named = [policy for policy in policies if node.record and policy.name == node.record.cr]
    policy = (named or policies)[0]
    target = asked(policy, world.settings)
    others = (asked(other, world.settings) for other in policies)
    return Assignment(
        policies=policies,
        policy=policy,
        target=target,
        overlap=any(not target.same_module(other) for other in others),
    )


def _matched(world: World, policy: PolicyView) -> Iterator[str]:
    if policy.spec_fault or policy.deleting:
        return
    selector = policy.spec.node_affinity
    listed = [r for r in selector.match_expressions if r.key == LABEL_HOSTNAME and r.operator == "In"]
    rest = replace(
        selector, match_expressions=tuple(r for r in selector.match_expressions if r not in listed)
    )
    wanted = [frozenset(r.values) for r in listed]  # 200 names in a set: the usual selector, made cheap
    for node in world.nodes.values():
        if any(node.labels.get(LABEL_HOSTNAME) not in names for names in wanted):
            continue
        if node.labels.get(LABEL_PRESENT) == "true" and rest.matches(node.labels):
            yield node.name
