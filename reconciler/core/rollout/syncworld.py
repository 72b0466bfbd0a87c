"""FleetWorld: all that the reconciler's decision may look at, and all that it may want done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import Manifest
from reconciler.core.rollout.guards import Refusal
from reconciler.core.rollout.plan import Plan
from reconciler.core.world import PolicyView
from schema.sync import SyncReason, SyncSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncView:
    """One FleetSync. `hold` is its hold annotation, `rival` the older FleetSync that counts instead of it."""

    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    spec: SyncSpec
    status: Mapping[str, Any] = field(default_factory=dict)
    hold: str = ""
    rival: str = ""

    @property
    def last_applied(self) -> str:
        return str(self.status.get("lastAppliedRevision", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Why nothing may be written but the status."""

    reason: SyncReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWorld:
    """One look at the repository and the cluster.

    Attributes:
        tree: the commit as read, with every problem found in it; None when it could not be read, `fault` says why.
        previous: the commit that was applied last, None where it is not known.
        past: earlier first-parent commits, newest first; needed only for plans with downgrades.
        machines: every node with a card, or named by a pool.
        policies: every ttdp of the cluster, by name.
        cluster_uid: uid of namespace kube-system, "" when unknown.
    """

    sync: SyncView
    tree: Tree | None
    fault: Stall | None = None
    previous: Tree | None = None
    past: tuple[Tree, ...] = ()
    machines: Mapping[str, Machine] = field(default_factory=dict)
    policies: Mapping[str, PolicyView] = field(default_factory=dict)
    cluster_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPolicy:
    """Server-side apply of a ttdp. `resource_version` None creates it, and conflicts when it is there by now."""

    manifest: Manifest
    resource_version: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePolicy:
    """Delete a ttdp that no group renders any more, as it was read (uid and resourceVersion)."""

    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSync:
    """status of the FleetSync, whole; only when it differs from what is served."""

    name: str
    resource_version: str
    status: Mapping[str, Any]


SyncAction = ApplyPolicy | DeletePolicy | WriteSync


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDecision:
    """What the reconciler wants now: actions in order, each only after the one before it succeeded.

    `plan` is None where there is nothing to plan from; `refused` says which guards refused it.
    """

    actions: tuple[SyncAction, ...]
    plan: Plan | None = None
    refused: tuple[Refusal, ...] = ()
    stall: Stall | None = None
    policies: tuple[str, ...] = ()  # names of all that the commit renders
    settled: bool = False  # nothing is left to do for this commit, in any wave
