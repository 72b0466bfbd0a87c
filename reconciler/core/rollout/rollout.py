"""One pool's roll-out as it lies in the cluster: which plan, which node in which wave, which wave is how far.

Nothing is remembered outside the cluster: the plan is the annotation of the policies, the layout their hostname lists.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import Group, group, hostnames_of, read_target, target_of
from reconciler.core.fleet.resolve import PoolDesired
from reconciler.core.fleet.waves import BACK, HELD, LATE, Wave, line_up
from reconciler.core.rollout.plan import Kind, digest, kind_of, opening_waves, settled_waves
from reconciler.core.world import PolicyView
from schema.names import (
    ANNOTATION_PLAN,
    ANNOTATION_PROMOTED,
    ANNOTATION_PROMOTED_PLAN,
    ANNOTATION_RANK,
    LABEL_POOL,
    LABEL_SYNC,
    LABEL_WAVE,
)
from schema.states import TERMINAL, NodeState
from schema.sync import WaveState
from schema.target import Target

_PLAN_ID = re.compile(r"(?P<pool>[^/]+)/(?P<number>\d+)-(?P<digest>[0-9a-f]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanId:
    """`<pool>/<number>-<digest>`."""

    pool: str
    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.number}-{self.digest}"


def parse_plan(text: object) -> PlanId | None:
    match = _PLAN_ID.fullmatch(text) if isinstance(text, str) else None
    return PlanId(pool=match["pool"], number=int(match["number"]), digest=match["digest"]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A ttdp of ours as it is served.

    Attributes:
        nodes: those of its list that exist.
        states: of its nodes as the operator reports them.
    """

    view: PolicyView
    pool: str
    wave: str
    rank: str
    plan: PlanId | None
    target: Target | None
    promoted: Target | None
    promoted_plan: PlanId | None
    hostnames: frozenset[str]
    nodes: frozenset[str]
    states: Mapping[str, str]

    @property
    def opened(self) -> bool:
        return not self.view.spec.waiting

    @property
    def observed(self) -> bool:
        """The operator's status speaks of the present spec."""
        seen = self.view.status.get("observedGeneration")
        return isinstance(seen, int) and seen >= self.view.generation


def read_live(policies: Iterable[PolicyView], sync: str, machines: Mapping[str, Machine]) -> dict[str, Live]:
    """Policies with the label of this FleetSync, by name."""
    by_hostname = {machine.hostname: machine.name for machine in machines.values()}
    return {view.name: _live(view, by_hostname) for view in policies if view.labels.get(LABEL_SYNC) == sync}


def _live(view: PolicyView, by_hostname: Mapping[str, str]) -> Live:
    hostnames = hostnames_of(view.spec)
    return Live(
        view=view,
        pool=view.labels.get(LABEL_POOL, ""),
        wave=view.labels.get(LABEL_WAVE, ""),
        rank=view.annotations.get(ANNOTATION_RANK, ""),
        plan=parse_plan(view.annotations.get(ANNOTATION_PLAN)),
        target=target_of(view.spec),
        promoted=read_target(view.annotations.get(ANNOTATION_PROMOTED)),
        promoted_plan=parse_plan(view.annotations.get(ANNOTATION_PROMOTED_PLAN)),
        hostnames=hostnames,
        nodes=frozenset(by_hostname[name] for name in hostnames if name in by_hostname),
        states=_states(view.status.get("nodes")),
    )


def _states(entries: object) -> dict[str, str]:
    """State by node; of two entries with one name the first counts."""
    found: dict[str, str] = {}
    for entry in entries if isinstance(entries, Iterable) else ():
        if isinstance(entry, Mapping):
            found.setdefault(str(entry.get("name")), str(entry.get("state", "")))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A pool's plan: its id, its waves, its policies to be.

    `begun`: the first wave's policy is written, and with it all others; `complete`: every wave was promoted.
    """

    pool: PoolDesired
    id: PlanId
    waves: tuple[Wave, ...]
    groups: tuple[Group, ...]
    begun: bool
    complete: bool

    def of_wave(self, wave: Wave) -> tuple[Group, ...]:
        return tuple(part for part in self.groups if part.wave == wave.name)


def roll_out(
    pool: PoolDesired, live: Mapping[str, Live], status: Mapping[str, Any], machines: Iterable[Machine]
) -> Rollout:
    """The plan that is under way for what `pool` wants, or the one that begins now."""
    members = {node.node for node in pool.nodes}
    ours = [one for one in live.values() if one.pool == pool.name and one.wave != HELD]
    mine = [one for one in ours if one.nodes & members]
    plan = plan_id(pool, mine, status, machines)
    recorded = _recorded_waves(pool, [one for one in mine if one.plan == plan])
    begun = any(one.plan == plan and one.rank == "0" for one in mine) and not _emptied(
        pool, ours, plan, recorded
    )
    complete = (
        begun
        and all(one.plan == plan and one.promoted_plan == plan for one in mine)
        and not _lost_waves(pool, mine)
    )
    if complete:
        assigned = settled_waves(pool)
    elif begun:
        assigned = recorded
    else:
        assigned = opening_waves(pool)
    waves = line_up(assigned, pool.waves)
    return Rollout(pool=pool, id=plan, waves=waves, groups=group(pool, waves), begun=begun, complete=complete)


def _emptied(pool: PoolDesired, ours: Iterable[Live], plan: PlanId, recorded: Mapping[str, str]) -> bool:
    """A wave that is not promoted has lost all its nodes, held or gone, and others could take their place.

    Then the table is laid out anew, so that nobody skips that wave.
    """
    table = {spec.name for spec in pool.waves}
    unproved = table & {one.wave for one in ours if one.plan == plan and one.promoted_plan != plan}
    return bool(unproved & (set(opening_waves(pool).values()) - set(recorded.values())))


def _lost_waves(pool: PoolDesired, mine: Sequence[Live]) -> frozenset[str]:
    """Waves whose policy somebody deleted; without them a plan is not over. Nodes that just joined lack none."""
    present = {HELD, *(one.wave for one in mine)}
    covered = {node for one in mine for node in one.nodes}
    return frozenset(wave for node, wave in settled_waves(pool).items() if node not in covered) - present


def plan_id(
    pool: PoolDesired, mine: Iterable[Live], status: Mapping[str, Any], machines: Iterable[Machine]
) -> PlanId:
    """The highest id known for the pool if it is for the same Targets and table, else the next number."""
    known = [one.plan for one in mine]
    known += [parse_plan(entry.get("id")) for entry in status.get("plans", ()) if isinstance(entry, Mapping)]
    known += [parse_plan(entry.plan) for machine in machines for entry in machine.history.reached]
    ours = [plan for plan in known if plan is not None and plan.pool == pool.name]
    wanted = digest(pool)
    highest = max(ours, key=lambda plan: plan.number, default=None)
    if highest is not None and highest.digest == wanted:
        return highest
    return PlanId(pool=pool.name, number=highest.number + 1 if highest else 1, digest=wanted)


def _recorded_waves(pool: PoolDesired, current: Sequence[Live]) -> dict[str, str]:
    """Node -> wave by the lists of the plan's own policies; nodes that came since form the wave `late`.

    A wave whose policy is gone (somebody deleted it) is laid out by the table again.
    """
    order = {name: rank for rank, name in enumerate((BACK, *(spec.name for spec in pool.waves), LATE))}
    record: dict[str, str] = {}
    for one in sorted((one for one in current if one.wave in order), key=lambda one: -order[one.wave]):
        record |= dict.fromkeys(one.nodes, one.wave)
    present = {one.wave for one in current}
    table = settled_waves(pool)
    return {
        node: wave if wave == HELD else record.get(node, LATE if wave in present else wave)
        for node, wave in table.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one wave is in its plan. `waits_for` names what keeps an open wave from being done."""

    wave: Wave
    state: WaveState
    nodes: int
    done: int
    failed: int
    waits_for: str = ""

    @property
    def passed(self) -> bool:
        return self.state is WaveState.DONE or self.wave.name == HELD


def progress(
    rollout: Rollout, wave: Wave, live: Mapping[str, Live], machines: Mapping[str, Machine]
) -> Progress:
    """Count a wave, and judge whether the next one may open (design, section 2.8)."""
    parts = rollout.of_wave(wave)
    states = {node: _node_state(part, node, live, machines) for part in parts for node in part.nodes}
    done = sum(state == NodeState.DONE for state in states.values())
    failed = sum(state in {NodeState.FAILED, NodeState.UNLOAD_FAILED} for state in states.values())
    opened = all(_opened(rollout, part, live) for part in parts)
    waits_for = _waits_for(rollout, parts, live, machines, states) if opened else ""
    finished = wave.name != HELD and (
        rollout.complete or (opened and (_promoted(rollout, parts, live) or not waits_for))
    )
    state = WaveState.DONE if finished else WaveState.OPEN if opened else WaveState.CLOSED
    return Progress(wave=wave, state=state, nodes=len(states), done=done, failed=failed, waits_for=waits_for)


def _opened(rollout: Rollout, part: Group, live: Mapping[str, Live]) -> bool:
    one = live.get(part.name)
    return one is not None and one.plan == rollout.id and one.opened


def _promoted(rollout: Rollout, parts: Sequence[Group], live: Mapping[str, Live]) -> bool:
    """Done once is done for this plan, whatever happens to a node later."""
    return all(live[part.name].promoted_plan == rollout.id for part in parts)


def _node_state(part: Group, node: str, live: Mapping[str, Live], machines: Mapping[str, Machine]) -> str:
    """The operator's word, but Done only while the host says so too."""
    one = live.get(part.name)
    state = one.states.get(node, "") if one is not None and one.target == part.target else ""
    unmoved = kind_of(machines[node].current, part.target) is Kind.NONE
    return state if state != NodeState.DONE or unmoved else NodeState.PENDING


def _waits_for(
    rollout: Rollout,
    parts: Sequence[Group],
    live: Mapping[str, Live],
    machines: Mapping[str, Machine],
    states: Mapping[str, str],
) -> str:
    """Empty when every node is Done, or terminal beside at least one that is."""
    for part in parts:
        one = live[part.name]
        if one.target != part.target or one.hostnames != frozenset(part.hostnames):
            return f"{part.name} to be applied"
        if not one.observed:
            return f"the operator to see {part.name}"
    open_nodes = sorted(node for node, state in states.items() if state not in TERMINAL)
    if open_nodes:
        more = f" and {len(open_nodes) - 1} more" if len(open_nodes) > 1 else ""
        return f"{open_nodes[0]} {states[open_nodes[0]] or 'unseen'}{more}"
    desired = {node.node: node.target for node in rollout.pool.nodes}
    unchanged = all(kind_of(machines[node].current, desired[node]) is Kind.NONE for node in states)
    if unchanged or NodeState.DONE in states.values():
        return ""
    return "one node that is Done: all are skipped, held or offline"
