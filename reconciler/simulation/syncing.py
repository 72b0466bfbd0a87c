"""The reconciler's side of a simulation: a FleetSync that follows commits and applies ttdps to the modelled server."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.core.actions import Outcome, Verb
from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import (
    ApplyPolicy,
    DeletePolicy,
    FleetWorld,
    SyncAction,
    SyncDecision,
    SyncView,
    WriteSync,
)
from reconciler.core.world import PolicyView
from reconciler.simulation.play import Play
from reconciler.simulation.server import CONFLICT, GONE
from schema.sync import SyncMode, SyncSpec

EVERY_S = 10.0
Drive = Callable[
    ["SimulatedSync", Callable[[FleetWorld, float], SyncDecision], float], Awaitable[SyncDecision]
]


@dataclass(slots=True, kw_only=True)
class SimulatedSync:
    """One reconciler process. Implements `reconciler.loop.Cluster`.

    Attributes:
        commits: what the repository holds, oldest first; the last is what is fetched.
        told: called with a sentence for every ttdp that is applied or deleted.
    """

    play: Play
    drive: Drive
    cluster: str = ""
    commits: list[Tree] = field(default_factory=list)
    told: Callable[[str], None] = lambda _: None
    status: Mapping[str, Any] = field(default_factory=dict)
    decision: SyncDecision | None = None

    async def look(self, now: float) -> float:
        """One pass; returns the seconds until the next one."""
        if self.commits:
            self.decision = await self.drive(self, sequence, now)
        return EVERY_S

    @property
    def settled(self) -> bool:
        """The last commit is applied everywhere, in every wave."""
        applied = self.status.get("lastAppliedRevision")
        return self.decision is not None and self.decision.settled and applied == self.commits[-1].revision

    async def snapshot(self) -> FleetWorld:
        server = self.play.server
        applied = self.status.get("lastAppliedRevision")
        return FleetWorld(
            sync=SyncView(
                name="fleet",
                resource_version="1",
                spec=SyncSpec(path="fleet", cluster=self.cluster, mode=SyncMode.ENFORCE),
                status=self.status,
            ),
            tree=self.commits[-1],
            previous=next((tree for tree in self.commits if tree.revision == applied), None),
            past=tuple(reversed(self.commits[:-1])),
            machines={name: Machine.of_node(node) for name, node in server.nodes.items()},
            policies=dict(server.policies),
        )

    async def act(self, action: SyncAction) -> Outcome:
        match action:
            case ApplyPolicy():
                return self._apply(action)
            case DeletePolicy():
                return self._delete(action)
            case WriteSync():
                self.status = action.status
                return Outcome(verb=Verb.DONE, code=200)

    def absorb(self, action: SyncAction, outcome: Outcome, now: float) -> None:
        """Nothing is remembered."""

    def _apply(self, action: ApplyPolicy) -> Outcome:
        manifest, server = action.manifest, self.play.server
        served = server.policies.get(manifest.name)
        if (served.resource_version if served else None) != action.resource_version:
            return CONFLICT
        paused = served is not None and served.spec.paused
        made = PolicyView(
            name=manifest.name,
            uid=f"uid-{manifest.name}",
            resource_version="",
            generation=0,
            labels=dict(manifest.labels),
            annotations=dict(manifest.annotations),
            spec=replace(manifest.spec, paused=paused),
            status={},
        )
        server.apply(made)
        gate = "closed" if manifest.spec.waiting else "open"
        same = served is not None and (served.spec.version, served.spec.waiting) == (
            made.spec.version,
            made.spec.waiting,
        )
        if not same:
            self.told(f"ttdp {manifest.name}: {manifest.spec.version}, {gate}")
        return Outcome(verb=Verb.DONE, code=200)

    def _delete(self, action: DeletePolicy) -> Outcome:
        served = self.play.server.policies.get(action.name)
        if served is None:
            return GONE
        if served.resource_version != action.resource_version:
            return CONFLICT
        self.play.server.withdraw(action.name)
        self.told(f"ttdp {action.name}: deleted")
        return Outcome(verb=Verb.DONE, code=200)
