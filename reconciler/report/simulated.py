"""What `ttfleet simulate` prints: a timeline in virtual time and a table of every node that changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.report.plans import table

_HEAD = ("NODE", "WAVE", "FROM", "TO", "OUTAGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """One node that an act brought from one version to another; `outage_s` is None where nobody measured it."""

    node: str
    wave: str
    before: str
    after: str
    outage_s: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "wave": self.wave,
            "from": self.before,
            "to": self.after,
            "outageSeconds": self.outage_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActReport:
    """One commit and what came of it.

    Attributes:
        took_s: virtual seconds until every wave was done, or until the time was up.
        timeline: (seconds since the commit, sentence).
        settled: every wave is done.
        open: node -> state (reason), of the nodes that are not done.
    """

    title: str
    took_s: float
    timeline: tuple[tuple[float, str], ...]
    changes: tuple[NodeChange, ...]
    settled: bool
    open: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "seconds": round(self.took_s, 1),
            "settled": self.settled,
            "timeline": [{"at": round(at, 1), "what": what} for at, what in self.timeline],
            "changes": [change.to_json() for change in self.changes],
            "open": dict(self.open),
        }


def simulated_text(acts: Sequence[ActReport], *, most: int, budget: int, seed: int, faults: bool) -> str:
    """Acts one after the other, then what they kept."""
    weather = "rough" if faults else "calm"
    lines = [line for act in acts for line in _act(act)]
    lines.append(
        f"most nodes unavailable at once {most}, budget {budget} (virtual time, seed {seed}, {weather})"
    )
    return "\n".join((*lines, ""))


def _act(act: ActReport) -> Iterator[str]:
    yield act.title
    for at, what in act.timeline:
        yield f"{_clock(at)}  {what}"
    ending = "every wave is done" if act.settled else "NOT DONE"
    yield f"{_clock(act.took_s)}  {ending}"
    for node, state in sorted(act.open.items()):
        yield f"        {node}: {state}"
    if act.changes:
        yield ""
        yield from table((_HEAD, *(_row(change) for change in act.changes)))
    yield ""


def _row(change: NodeChange) -> tuple[str, ...]:
    outage = f"{change.outage_s:.1f} s" if change.outage_s is not None else "-"
    return change.node, change.wave or "-", change.before or "none", change.after or "none", outage


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):3d}:{rest:04.1f}"
