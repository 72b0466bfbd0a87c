"""Plan: what a commit changes, node by node, against what is installed (or against another commit).

A plan is only read, never executed: sequence.py decides from the same layout what is written now.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import Desired, NodeDesired, PoolDesired
from reconciler.core.fleet.waves import BACK, HELD, Wave, assign, line_up
from schema.states import Reason
from schema.target import Mode, Target, Vacate

#: seconds that one node of a batch is counted with: drain, swap and checks; the build runs before, while work goes on
CHANGE_S: Final = 60


class Kind(StrEnum):
    """What happens to a node, in the order in which a plan lists it."""

    DELETE = "delete"  # it leaves every pool: nothing is done to it any more
    DOWNGRADE = "downgrade"
    VACATE = "vacate"  # host -> container
    RESTORE = "restore"  # container -> host
    UPGRADE = "upgrade"
    INSTALL = "install"
    NONE = "none"


_ORDER: Final = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One node: from what to what, in which wave, what keeps it from starting (empty: nothing), and who said so."""

    node: str
    pool: str
    wave: str
    rank: int
    kind: Kind
    from_: Target | None
    to: Target | None
    blocked: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        pairs = {
            "node": self.node,
            "pool": self.pool,
            "wave": self.wave,
            "kind": str(self.kind),
            "from": self.from_.to_json() if self.from_ else None,
            "to": self.to.to_json() if self.to else None,
            "blocked": self.blocked or None,
            "why": self.why or None,
        }
        return {key: value for key, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """One pool's roll-out. `id` is `<pool>/<n>-<digest>`; `estimate_s` counts its waves one after the other."""

    pool: str
    id: str
    waves: tuple[Wave, ...]
    changes: int
    estimate_s: int

    def to_json(self) -> dict[str, Any]:
        waves = [{"name": wave.name, "nodes": list(wave.nodes)} for wave in self.waves]
        return {
            "pool": self.pool,
            "id": self.id,
            "changes": self.changes,
            "estimateSeconds": self.estimate_s,
            "waves": waves,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All changes of a cluster, sorted: deletes, downgrades and vacates first."""

    cluster: str
    revision: str
    pools: tuple[PoolPlan, ...]
    changes: tuple[Change, ...]
    unassigned: tuple[str, ...] = ()
    contested: Mapping[str, tuple[str, ...]] | None = None

    @property
    def pending(self) -> tuple[Change, ...]:
        """Changes that are any."""
        return tuple(change for change in self.changes if change.kind is not Kind.NONE)

    def to_json(self) -> dict[str, Any]:
        return {
            "cluster": self.cluster,
            "revision": self.revision,
            "pools": [pool.to_json() for pool in self.pools],
            "changes": [change.to_json() for change in self.changes],
            "unassigned": list(self.unassigned),
            "contested": {node: list(pools) for node, pools in sorted((self.contested or {}).items())},
        }


def kind_of(current: Target | None, target: Target) -> Kind:
    """What it takes to get from `current` to `target`."""
    if target.mode is Mode.HOST:
        return Kind.RESTORE if current and current.mode is Mode.CONTAINER else Kind.NONE
    if current is None:
        return Kind.INSTALL
    if current.mode is Mode.HOST:
        return Kind.NONE if target.vacate is Vacate.NEVER else Kind.VACATE
    if current.same_module(target):
        return Kind.NONE
    if not current.version:
        return Kind.INSTALL
    older = version_key(target.version) < version_key(current.version)
    return Kind.DOWNGRADE if older else Kind.UPGRADE


def version_key(version: str | None) -> tuple[int, ...]:
    """`2.10.0` after `2.9.0`."""
    return tuple(int(part) for part in (version or "0").split(".") if part.isdigit())


def digest(pool: PoolDesired) -> str:
    """Names a pool's Targets and wave table: equal whatever the commit is called and whichever nodes are there."""
    said = {
        "target": pool.target.to_json() if pool.target else None,
        "exceptions": [[node, target.to_json()] for node, target in pool.exceptions],
        "waves": [wave.to_json() for wave in pool.waves],
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def settled_waves(pool: PoolDesired) -> dict[str, str]:
    """Node -> wave by the table alone: how a pool lies when no plan is open. Held nodes stand apart."""
    held = {node.node for node in pool.nodes if node.hold}
    active = [node.node for node in pool.nodes if node.node not in held]
    return assign(pool.name, active, pool.waves) | dict.fromkeys(held, HELD)


def opening_waves(pool: PoolDesired) -> dict[str, str]:
    """Node -> wave of a plan that begins now: nodes that return to a Target they had form one wave before all others."""
    waves = settled_waves(pool)
    back = {node.node for node in pool.nodes if not node.hold and goes_back(node)}
    rest = [name for name, wave in waves.items() if name not in back and wave != HELD]
    return waves | assign(pool.name, rest, pool.waves) | dict.fromkeys(back, BACK)


def goes_back(node: NodeDesired) -> bool:
    changing = kind_of(node.machine.current, node.target) is not Kind.NONE
    return (changing or node.machine.returning_to is not None) and node.machine.goes_back_to(node.target)


def draft(
    desired: Desired,
    *,
    ids: Mapping[str, str],
    layouts: Mapping[str, tuple[Wave, ...]] | None = None,
    opened: Mapping[str, int] | None = None,
    dropped: Iterable[Machine] = (),
) -> Plan:
    """Put a plan together.

    Args:
        desired: the commit, resolved.
        ids: plan id by pool.
        layouts: waves by pool as they lie in the cluster; absent: as a plan that begins now would lay them out.
        opened: highest rank that is open, by pool; absent: the first.
        dropped: nodes that leave every pool.
    """
    pools, changes = [], [_deletion(machine) for machine in dropped]
    for pool in desired.pools:
        waves = (layouts or {}).get(pool.name) or line_up(opening_waves(pool), pool.waves)
        found = tuple(_changes(pool, waves, (opened or {}).get(pool.name, 0)))
        changes += found
        pools.append(
            PoolPlan(
                pool=pool.name,
                id=ids[pool.name],
                waves=waves,
                changes=sum(change.kind is not Kind.NONE for change in found),
                estimate_s=_estimate(pool, found),
            )
        )
    return Plan(
        cluster=desired.cluster,
        revision=desired.revision,
        pools=tuple(pools),
        changes=tuple(sorted(changes, key=lambda c: (_ORDER[c.kind], c.pool, c.rank, c.node))),
        unassigned=desired.unassigned,
        contested=desired.contested,
    )


def _changes(pool: PoolDesired, waves: Sequence[Wave], opened: int) -> Iterable[Change]:
    by_name = {node.node: node for node in pool.nodes}
    for wave in waves:
        for node in (by_name[name] for name in wave.nodes):
            kind = kind_of(node.machine.current, node.target)
            yield Change(
                node=node.node,
                pool=pool.name,
                wave=wave.name,
                rank=wave.rank,
                kind=kind,
                from_=node.machine.current,
                to=node.target,
                blocked=_blocked(node, wave, opened, kind),
                why=str(node.why.get("version", node.why["pool"])),
            )


def _deletion(machine: Machine) -> Change:
    return Change(
        node=machine.name, pool="", wave="", rank=0, kind=Kind.DELETE, from_=machine.current, to=None
    )  # fmt: skip


def _blocked(node: NodeDesired, wave: Wave, opened: int, kind: Kind) -> str:
    """What keeps a node from changing now: the first that the operator would meet."""
    current = node.machine.current
    if node.target.mode is Mode.CONTAINER and current and current.mode is Mode.HOST and kind is Kind.NONE:
        return str(Reason.HOST_MANAGED_KMD)
    if node.hold:
        return f"{Reason.HELD} {node.hold}"
    if kind is Kind.NONE:
        return str(Reason.SKIP_LABEL) if node.machine.obstacle is Reason.SKIP_LABEL else ""
    if kind in {Kind.VACATE, Kind.RESTORE}:
        return str(Reason.NOT_SUPPORTED)
    if node.stopped:
        return f"release blocked: {node.stopped}"
    if node.machine.obstacle:
        return str(node.machine.obstacle)
    return str(Reason.WAVE_CLOSED) if wave.rank > opened else ""


def _estimate(pool: PoolDesired, changes: Sequence[Change]) -> int:
    """Seconds: each wave in batches of the smallest budget."""
    budgets = [budget.max_unavailable for node in pool.nodes for budget in node.policy.budgets]
    batch = min(budgets, default=1)
    sizes: dict[int, int] = {}
    for change in changes:
        if change.kind is not Kind.NONE:
            sizes[change.rank] = sizes.get(change.rank, 0) + 1
    return sum(-(-size // batch) * CHANGE_S for size in sizes.values())
