"""Waves: a pool's nodes in the order in which they may change, with exact counts.

Ranks are a hash of (pool, node name), so the layout depends neither on the order of nodes nor on the cluster.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: waves that no table names: nodes that return to a Target they had, nodes that came while a plan was open, held nodes
BACK: Final = "back"
LATE: Final = "late"
HELD: Final = "held"
RESERVED: Final = frozenset({BACK, LATE, HELD})
DEFAULT_WAVE: Final = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveSpec:
    """One line of a wave table. Neither count nor percent: the rest."""

    name: str
    count: int | None = None
    percent: int | None = None

    def size(self, pool_size: int) -> int:
        """How many nodes it takes of a pool; percentages are floored, at least 1."""
        if self.count is not None:
            return max(1, self.count)
        return max(1, pool_size * self.percent // 100) if self.percent is not None else pool_size

    def to_json(self) -> dict[str, Any]:
        pairs = {"name": self.name, "count": self.count, "percent": self.percent}
        return {key: value for key, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Nodes that change together: `rank` counts from 0 within the pool, `nodes` are sorted by name."""

    name: str
    rank: int
    nodes: tuple[str, ...]


def wave_table(entries: Iterable[Mapping[str, Any]]) -> tuple[WaveSpec, ...]:
    """The table as written, or one wave of all nodes. The last wave takes the rest, whatever its number says."""
    table = tuple(
        WaveSpec(name=entry["name"], count=entry.get("count"), percent=entry.get("percent"))
        for entry in entries
    )
    return (*table[:-1], WaveSpec(name=table[-1].name)) if table else (WaveSpec(name=DEFAULT_WAVE),)


def ranked(pool: str, nodes: Iterable[str]) -> tuple[str, ...]:
    """Nodes in the order of their hash."""
    return tuple(sorted(nodes, key=lambda node: (_hash(pool, node), node)))


def assign(pool: str, nodes: Collection[str], table: Sequence[WaveSpec]) -> dict[str, str]:
    """Node -> wave name by the table: exact counts, the last wave takes what is left."""
    order = ranked(pool, nodes)
    waves: dict[str, str] = {}
    start = 0
    for spec in table:
        chosen = order[start : start + spec.size(len(order))]
        waves |= dict.fromkeys(chosen, spec.name)
        start += len(chosen)
    return waves


def line_up(waves: Mapping[str, str], table: Sequence[WaveSpec]) -> tuple[Wave, ...]:
    """Waves that have nodes, in order: back, the table, late, held; ranks without gaps."""
    order = (BACK, *(spec.name for spec in table), LATE, HELD)
    members = {name: tuple(sorted(node for node, wave in waves.items() if wave == name)) for name in order}
    present = [name for name in order if members[name]]
    return tuple(Wave(name=name, rank=rank, nodes=members[name]) for rank, name in enumerate(present))


def _hash(pool: str, node: str) -> str:
    return hashlib.sha256(f"{pool}\0{node}".encode()).hexdigest()
