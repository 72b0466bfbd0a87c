"""Guards: changes too large to be meant. A guard refuses the whole commit; the override is a number in the same commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.core.fleet.resolve import Desired
from reconciler.core.rollout.plan import Change, Kind, Plan
from schema.target import Mode, Target

DOWNGRADE_COMMITS: Final = 50  # first-parent commits in which a pool's Target still counts as its own
_SHOWN: Final = 5


class Guard(StrEnum):
    NODE_DROPPED = "NodeDropped"
    MAX_VACATES = "MaxVacates"
    MAX_DELETES = "MaxDeletes"
    MAX_MOVES = "MaxMoves"
    DOWNGRADE = "Downgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Which guard refused, what it saw, what to do about it."""

    guard: Guard
    message: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.message}"


def refusals(
    desired: Desired,
    plan: Plan,
    *,
    placed: Mapping[str, frozenset[str]],
    past: Mapping[str, frozenset[Target]],
    returning: frozenset[str] = frozenset(),
) -> tuple[Refusal, ...]:
    """Everything that is refused, in a fixed order; empty: go ahead.

    Args:
        desired: the commit, resolved.
        plan: its plan; kind `delete` are the nodes that this commit takes out of every pool.
        placed: pools whose policies name a node now, by node.
        past: Targets that a pool had within the last `DOWNGRADE_COMMITS` first-parent commits.
        returning: nodes that this commit takes back to a pool that one of those commits had them in: a revert.
    """
    by_kind = {kind: [change for change in plan.changes if change.kind is kind] for kind in Kind}
    dropped = [c for c in by_kind[Kind.DELETE] if c.from_ and c.from_.mode is Mode.CONTAINER]
    deleted = [c for c in by_kind[Kind.DELETE] if c not in dropped]
    vacated = by_kind[Kind.VACATE] + by_kind[Kind.RESTORE]
    moved = [
        name
        for name, node in desired.nodes.items()
        if placed.get(name) and node.pool not in placed[name] and name not in returning
    ]
    guards = desired.guards
    found = [
        _dropped(dropped),
        _over(Guard.MAX_DELETES, "maxDeletes", _names(deleted), guards.max_deletes, "leave every pool"),
        _over(
            Guard.MAX_VACATES,
            "maxVacates",
            _names(vacated),
            guards.max_vacates,
            "pass between host and container",
        ),
        _over(Guard.MAX_MOVES, "maxMoves", moved, guards.max_moves, "change their pool"),
        _downgrades(desired, by_kind[Kind.DOWNGRADE], past),
    ]
    return tuple(refusal for refusal in found if refusal is not None)


def _dropped(changes: Sequence[Change]) -> Refusal | None:
    if not changes:
        return None
    names = _listed(_names(changes))
    return Refusal(
        guard=Guard.NODE_DROPPED,
        message=f"{names}: container-managed, and in no pool any more; say mode: host for them first",
    )


def _over(guard: Guard, field: str, names: Sequence[str], limit: int, what: str) -> Refusal | None:
    if len(names) <= limit:
        return None
    message = f"{len(names)} nodes {what}, more than guards.{field} {limit}: {_listed(names)}"
    return Refusal(guard=guard, message=f"{message}; raise it in the same commit if that is meant")


def _downgrades(
    desired: Desired, changes: Sequence[Change], past: Mapping[str, frozenset[Target]]
) -> Refusal | None:
    allowed = {pool.name for pool in desired.pools if pool.allow_downgrade}
    nodes = desired.nodes
    strange = [
        change.node
        for change in changes
        if change.to
        and change.pool not in allowed
        and not nodes[change.node].machine.was_done_at(change.to)
        and not any(target.same_module(change.to) for target in past.get(change.pool, ()))
    ]
    if not strange:
        return None
    message = f"{_listed(strange)}: a lower version that the pool did not have in the last {DOWNGRADE_COMMITS} commits"
    return Refusal(guard=Guard.DOWNGRADE, message=f"{message}; allowDowngrade: true if that is meant")


def _names(changes: Sequence[Change]) -> list[str]:
    return [change.node for change in changes]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
