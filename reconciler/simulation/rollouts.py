"""The reconciler's decisions over a modelled cluster: a server that keeps policies, an operator that swaps nodes.

The server refuses stale writes as the real one does; the operator obeys gates and budgets, and is otherwise ideal. What
happens is a trace of one line an event.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.core.actions import Outcome, Verb
from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import dump_target, hostnames_of, read_target, target_of
from reconciler.core.rollout.plan import Kind, kind_of
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import (
    ApplyPolicy,
    DeletePolicy,
    FleetWorld,
    Stall,
    SyncAction,
    SyncDecision,
    SyncView,
    WriteSync,
)
from reconciler.core.world import PolicyView
from schema.clock import format_rfc3339
from schema.names import ANNOTATION_PLAN, ANNOTATION_PROMOTED
from schema.policy import PolicySpec
from schema.states import NodeState, Reason
from schema.sync import SyncMode, SyncSpec
from schema.target import Mode, Target
from schema.transaction import Attempt, Result

START_S = 1_790_000_000.0


@dataclass
class ModelCluster:
    """Policies, nodes and a FleetSync, as one process would see them.

    Attributes:
        drive: `loop.tick`; the simulation lies below it.
        commits: what the repository held, oldest first; the last is what is fetched.
        fault: the source cannot be read.
        failing: nodes on which a swap fails.
        writes_left: writes that still land before the connection breaks; None: it does not.
    """

    machines: dict[str, Machine]
    drive: "Drive"
    mode: SyncMode = SyncMode.ENFORCE
    cluster: str = ""
    commits: list[Tree] = field(default_factory=list)
    fault: Stall | None = None
    failing: set[str] = field(default_factory=set)
    policies: dict[str, PolicyView] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    now: float = START_S
    version: int = 1
    writes_left: int | None = None
    _failed: bool = False

    async def snapshot(self) -> FleetWorld:
        self._failed = False
        applied = self.status.get("lastAppliedRevision")
        return FleetWorld(
            sync=SyncView(
                name="fleet",
                resource_version="1",
                spec=SyncSpec(path="fleet", cluster=self.cluster, mode=self.mode),
                status=self.status,
            ),
            tree=None if self.fault else self.commits[-1],
            fault=self.fault,
            previous=next((tree for tree in self.commits if tree.revision == applied), None),
            past=tuple(reversed(self.commits[:-1])),
            machines=dict(self.machines),
            policies=dict(self.policies),
        )

    async def act(self, action: SyncAction) -> Outcome:
        if self._failed or self.writes_left == 0:
            return Outcome(verb=Verb.UNKNOWN, message="not tried")
        if self.writes_left is not None:
            self.writes_left -= 1
        match action:
            case ApplyPolicy():
                outcome = self._apply(action)
            case DeletePolicy():
                outcome = self._delete(action)
            case WriteSync():
                outcome = self._write_status(action)
        self._failed = outcome.verb is not Verb.DONE
        return outcome

    def absorb(self, action: SyncAction, outcome: Outcome, now: float) -> None:
        """Nothing is remembered."""

    async def tick(self) -> SyncDecision:
        """One pass of the reconciler."""
        self.now += 1
        return await self.drive(self, sequence, self.now)

    async def settle(self, *, ticks: int = 200, batch: int = 1) -> SyncDecision:
        """Reconciler and operator in turn until neither has anything to do.

        Raises:
            RuntimeError: they do not come to rest.
        """
        for _ in range(ticks):
            decision = await self.tick()
            if not self.operate(batch=batch) and not decision.actions:
                return decision
        raise RuntimeError(f"no rest after {ticks} ticks: {self.trace[-5:]}")

    def operate(self, *, batch: int = 1) -> bool:
        """The operator's turn: at most `batch` nodes start and are Done at once. Returns whether anything changed."""
        started = sorted(self._startable())[:batch]
        for name, policy in started:
            self._swap(name, self.policies[policy])
        reported = [name for name in self.policies if self._report(name)]
        return bool(started or reported)

    def _startable(self) -> list[tuple[str, str]]:
        """(node, policy) that an open policy would change; two policies with different Targets block a node."""
        wanted: dict[str, set[str]] = {}
        for policy in self.policies.values():
            for name in self._members(policy):
                wanted.setdefault(name, set()).add(policy.name)
        found = []
        for name, names in wanted.items():
            targets = {target_of(self.policies[policy].spec) for policy in names}
            chosen = min(names)
            if len(targets) == 1 and self._goal(name, self.policies[chosen]) and name not in self.failing:
                found.append((name, chosen))
        return found

    def _goal(self, name: str, policy: PolicyView) -> Target | None:
        """The Target that a node would start towards now."""
        machine, target = self.machines[name], target_of(policy.spec)
        if target is None or policy.spec.paused or machine.obstacle:
            return None
        if policy.spec.waiting:
            promoted = read_target(policy.annotations.get(ANNOTATION_PROMOTED))
            target = promoted if machine.current is None else None
        if target is None or kind_of(machine.current, target) in {Kind.NONE, Kind.VACATE, Kind.RESTORE}:
            return None
        return target

    def _swap(self, name: str, policy: PolicyView) -> None:
        machine, target = self.machines[name], self._goal(name, policy)
        assert target is not None
        entry = Attempt(
            at=format_rfc3339(self.now),
            plan=policy.annotations.get(ANNOTATION_PLAN, ""),
            from_=machine.current,
            to=target,
            result=Result.OK,
        )
        history = machine.history.reaching(entry)
        self.machines[name] = replace(
            machine, mode=target.mode, version=target.version or "", commit=target.commit, history=history
        )
        self.trace.append(f"    node   {name}: {machine.current or 'nothing'} -> {target} ({policy.name})")

    def _members(self, policy: PolicyView) -> list[str]:
        hostnames = hostnames_of(policy.spec)
        return sorted(m.name for m in self.machines.values() if m.hostname in hostnames and m.has_card)

    def _report(self, name: str) -> bool:
        """Write a policy's status; whether it changed."""
        policy = self.policies[name]
        nodes = [{"name": node, **self._state(node, policy)} for node in self._members(policy)]
        status = {"observedGeneration": policy.generation, "nodes": nodes}
        if status == policy.status:
            return False
        self.policies[name] = replace(policy, status=status, resource_version=self._next())
        return True

    def _state(self, node: str, policy: PolicyView) -> dict[str, str]:
        machine, target = self.machines[node], target_of(policy.spec)
        if machine.obstacle is Reason.SKIP_LABEL:
            return {"state": NodeState.SKIPPED, "reason": Reason.SKIP_LABEL}
        if target is None:
            return {"state": NodeState.PENDING}
        kind = kind_of(machine.current, target)
        if kind is Kind.NONE:
            managed = machine.mode is Mode.CONTAINER
            return {"state": NodeState.DONE if managed else NodeState.HOST_MANAGED}
        if policy.spec.waiting:
            return {"state": NodeState.WAITING, "reason": Reason.WAVE_CLOSED}
        if kind in {Kind.VACATE, Kind.RESTORE}:
            return {"state": NodeState.BLOCKED, "reason": Reason.NOT_SUPPORTED}
        if node in self.failing:
            return {"state": NodeState.FAILED, "reason": Reason.ROLLED_BACK}
        return {"state": NodeState.PENDING}

    def _apply(self, action: ApplyPolicy) -> Outcome:
        made, served = action.manifest, self.policies.get(action.manifest.name)
        if (served.resource_version if served else None) != action.resource_version:
            return Outcome(verb=Verb.CONFLICT, code=409)
        paused = served.spec.paused if served else False
        spec = replace(PolicySpec.from_json(made.spec.to_json()), paused=paused)
        changed = served is None or served.spec != spec
        generation = (served.generation if served else 0) + changed
        self.policies[made.name] = PolicyView(
            name=made.name,
            uid=f"uid-{made.name}",
            resource_version=self._next(),
            generation=generation,
            labels=dict(made.labels),
            annotations=dict(made.annotations),
            spec=spec,
            status=served.status if served else {},
        )
        self.trace.append(f"    apply  {made.name}: {_summary(made.spec, made.annotations)} ({action.why})")
        return Outcome(verb=Verb.DONE)

    def _delete(self, action: DeletePolicy) -> Outcome:
        served = self.policies.get(action.name)
        if served is None or (served.uid, served.resource_version) != (action.uid, action.resource_version):
            return Outcome(verb=Verb.CONFLICT, code=409)
        del self.policies[action.name]
        self.trace.append(f"    delete {action.name}")
        return Outcome(verb=Verb.DONE)

    def _write_status(self, action: WriteSync) -> Outcome:
        before, self.status = _said(self.status), dict(action.status)
        if _said(self.status) != before:
            self.trace.append(f"    status {_said(self.status)}")
        return Outcome(verb=Verb.DONE)

    def _next(self) -> str:
        self.version += 1
        return str(self.version)


Drive = Callable[[ModelCluster, Callable[[FleetWorld, float], SyncDecision], float], Awaitable[SyncDecision]]


def _summary(spec: PolicySpec, annotations: Mapping[str, str]) -> str:
    gate = "waiting" if spec.waiting else "open"
    count = len(hostnames_of(spec))
    promoted = read_target(annotations.get(ANNOTATION_PROMOTED))
    target = target_of(spec)
    last = (
        f", last {promoted}" if promoted and target and dump_target(promoted) != dump_target(target) else ""
    )
    plan = annotations.get(ANNOTATION_PLAN, "no plan")
    return f"{target}, {count} node{'s' * (count != 1)}, {gate}, {plan}{last}"


def _said(status: Mapping[str, Any]) -> str:
    """The Ready condition, for people."""
    for condition in status.get("conditions", ()):
        if condition["type"] == "Ready":
            return f"{condition['reason']}: {condition['message']}"
    return ""
