"""A plan as text."""

from collections.abc import Iterator, Sequence

from reconciler.core.rollout.guards import Refusal
from reconciler.core.rollout.plan import Change, Kind, Plan, PoolPlan

_HEAD = ("NODE", "POOL", "WAVE", "FROM", "TO", "KIND", "BLOCKED", "WHY")


def plan_text(plan: Plan, refused: Sequence[Refusal] = ()) -> str:
    """Pools with their waves, then every node that changes; refusals first, since they decide."""
    return "\n".join((*_text(plan, refused), ""))


def _text(plan: Plan, refused: Sequence[Refusal]) -> Iterator[str]:
    where = f"cluster {plan.cluster}  " if plan.cluster else ""
    yield f"{where}revision {plan.revision}"
    yield from (f"REFUSED {refusal}" for refusal in refused)
    yield from (_pool(pool, plan) for pool in plan.pools)
    for node, pools in sorted((plan.contested or {}).items()):
        yield f"CONTESTED {node}  matched by pools {', '.join(pools)}: left as it is"
    if plan.unassigned:
        yield f"unassigned {len(plan.unassigned)}: {', '.join(plan.unassigned)}"
    rows = [_row(change) for change in plan.changes if change.kind is not Kind.NONE or change.blocked]
    if rows:
        yield ""
        yield from table((_HEAD, *rows))
    else:
        yield "no changes"


def _pool(pool: PoolPlan, plan: Plan) -> str:
    counts = dict.fromkeys(Kind, 0)
    for change in plan.changes:
        if change.pool == pool.pool:
            counts[change.kind] += 1
    waves = ", ".join(f"{wave.name} {len(wave.nodes)}" for wave in pool.waves)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count and kind is not Kind.NONE)
    about = f"  about {-(-pool.estimate_s // 60)} min" if pool.changes else ""
    return f"{pool.id}  {sum(counts.values())} nodes ({waves}): {kinds or 'no changes'}{about}"


def _row(change: Change) -> tuple[str, ...]:
    return (
        change.node,
        change.pool or "–",
        change.wave or "–",
        str(change.from_) if change.from_ else "–",
        str(change.to) if change.to else "–",
        str(change.kind),
        change.blocked or "–",
        change.why or "–",
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns two blanks apart, no trailing blanks."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
