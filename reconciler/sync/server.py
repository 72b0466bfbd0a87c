"""The reconciler's cluster: worlds from informers and what was fetched, acts as single requests."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, assert_never

from reconciler.adapters.informer import Informer, all_running, all_synced
from reconciler.adapters.kube import Kube, Response
from reconciler.adapters.views import node_view, policy_view
from reconciler.core.actions import Outcome, Verb
from reconciler.core.fleet.machines import Machine
from reconciler.core.rollout.syncworld import (
    ApplyPolicy,
    DeletePolicy,
    FleetWorld,
    SyncAction,
    SyncView,
    WriteSync,
)
from reconciler.core.world import NodeView, PolicyView
from reconciler.sync.repository import Fetched
from schema.names import (
    ANNOTATION_HOLD,
    DRIVER_API_VERSION,
    FLEET_API_VERSION,
    MANAGER_RECONCILER,
    POLICY_PLURAL,
    SYNC_KIND,
    SYNC_PLURAL,
)
from schema.sync import SyncSpec

log = logging.getLogger("ttfleet.reconciler")

NODES = "/api/v1/nodes"
POLICIES = f"/apis/{DRIVER_API_VERSION}/{POLICY_PLURAL}"
SYNCS = f"/apis/{FLEET_API_VERSION}/{SYNC_PLURAL}"
KUBE_SYSTEM = "/api/v1/namespaces/kube-system"
NOT_TRIED = "NotTried"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSync:
    """A FleetSync as it is served; `created` decides which of several counts."""

    created: str
    view: SyncView


def served_sync(sync: Mapping[str, Any]) -> ServedSync:
    metadata = sync["metadata"]
    return ServedSync(
        created=metadata.get("creationTimestamp", ""),
        view=SyncView(
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            generation=metadata.get("generation", 1),
            spec=SyncSpec.from_json(sync.get("spec") or {}),
            status=sync.get("status") or {},
            hold=(metadata.get("annotations") or {}).get(ANNOTATION_HOLD, ""),
        ),
    )


def _material_node(node: NodeView) -> NodeView:
    """A kubelet's heartbeat is no news."""
    return replace(node, resource_version="")


@dataclass(kw_only=True)
class FleetServer:
    """A `loop.Cluster` for the decision `sequence`.

    Attributes:
        changed: set whenever nodes, policies or FleetSyncs are no longer what they were.
        fetched: what the repository holds.
        chosen: name of the FleetSync to decide for.
        standalone: stands for a FleetSync where the cluster has none; its status is kept here.
        override: changes the spec as served (`ttfleet apply` enforces whatever the mode).
        dry_run: "client": nothing is sent; "server": the server checks and keeps nothing.
        heard: called with every outcome.
    """

    kube: Kube
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: Callable[[SyncAction, Outcome], None] = lambda _action, _outcome: None
    override: Callable[[SyncSpec], SyncSpec] = lambda spec: spec
    standalone: SyncView | None = None
    dry_run: str = ""
    fetched: Fetched = field(default_factory=Fetched)
    chosen: str = ""
    cluster_uid: str = ""
    _failed: bool = False

    def __post_init__(self) -> None:
        watch = partial(Informer, self.kube, changed=self.changed.set)
        self.nodes: Informer[NodeView] = watch(NODES, node_view, material=_material_node)
        self.policies: Informer[PolicyView] = watch(POLICIES, policy_view)
        self.syncs: Informer[ServedSync] = watch(SYNCS, served_sync)

    @property
    def informers(self) -> tuple[Informer[Any], ...]:
        return (self.nodes, self.policies, self.syncs)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FleetServer"]:
        """Informers run for as long as the block."""
        async with all_running(self.informers):
            yield self

    async def synced(self) -> None:
        """Until every collection has been listed once, and the cluster's uid was asked for."""
        await all_synced(self.informers)
        await self._identify()

    async def _identify(self) -> None:
        answer = await self.kube.get(KUBE_SYSTEM)
        self.cluster_uid = answer.body["metadata"]["uid"] if answer.ok else ""

    def sync_views(self) -> tuple[SyncView, ...]:
        """All FleetSyncs, the one that counts first; the others name it as their rival."""
        served = sorted(self.syncs.store, key=lambda one: (one.created, one.view.name))
        views = [one.view for one in served] or ([self.standalone] if self.standalone else [])
        return tuple(
            replace(view, spec=self.override(view.spec), rival=views[0].name if rank else "")
            for rank, view in enumerate(views)
        )

    async def snapshot(self) -> FleetWorld:
        self._failed = False
        if not self.cluster_uid:
            await self._identify()
        sync = next(view for view in self.sync_views() if view.name == self.chosen)
        return FleetWorld(
            sync=sync,
            tree=self.fetched.tree,
            fault=self.fetched.fault,
            previous=self.fetched.previous,
            past=self.fetched.past,
            machines={node.name: Machine.of_node(node) for node in self.nodes.store},
            policies={policy.name: policy for policy in self.policies.store},
            cluster_uid=self.cluster_uid,
        )

    async def act(self, action: SyncAction) -> Outcome:
        """One request. After one that failed, the rest of a decision is not tried: it was decided on its success."""
        if self._failed:
            return Outcome(
                verb=Verb.UNKNOWN, cause=NOT_TRIED, message="not tried: an earlier write of this pass failed"
            )
        outcome = await self._send(action)
        self._failed = outcome.verb is not Verb.DONE
        return outcome

    def absorb(self, action: SyncAction, outcome: Outcome, now: float) -> None:
        del now
        self.heard(action, outcome)

    async def _send(self, action: SyncAction) -> Outcome:
        match action:
            case ApplyPolicy():
                return await self._apply(action)
            case DeletePolicy():
                return await self._delete(action)
            case WriteSync():
                return await self._write_status(action)
        assert_never(action)

    async def _apply(self, action: ApplyPolicy) -> Outcome:
        if self.dry_run == "client":
            return Outcome(verb=Verb.DONE)
        body = action.manifest.to_json()
        if action.resource_version is not None:
            body["metadata"]["resourceVersion"] = action.resource_version
        path = f"{POLICIES}/{action.manifest.name}"
        if action.resource_version is None:
            there = await self.kube.get(
                path
            )  # an apply takes over what is there, and the watch may lag behind
            if there.code != 404:
                return self._kept(there)
        checking = self.dry_run == "server"
        answer = await self.kube.apply(
            path, body, field_manager=MANAGER_RECONCILER, force=True, dry_run=checking
        )
        return outcome_of(answer) if checking else await self._absorbed(self.policies, path, answer)

    def _kept(self, there: Response) -> Outcome:
        """Nothing is created where something is, or may be."""
        self.policies.wrote(there)
        outcome = outcome_of(there)
        message = "somebody created it in the meantime"
        return replace(outcome, verb=Verb.CONFLICT, message=message) if there.ok else outcome

    async def _delete(self, action: DeletePolicy) -> Outcome:
        if self.dry_run:
            return Outcome(verb=Verb.DONE)
        path = f"{POLICIES}/{action.name}"
        answer = await self.kube.delete(path, uid=action.uid, resource_version=action.resource_version)
        if answer.ok or answer.code == 404:
            await self.policies.relist()  # gone is gone: nobody shall decide on it again
            return Outcome(verb=Verb.DONE, code=answer.code)
        return await self._absorbed(self.policies, path, answer)

    async def _write_status(self, action: WriteSync) -> Outcome:
        if self.standalone is not None and self.standalone.name == action.name and not len(self.syncs.store):
            self.standalone = replace(self.standalone, status=dict(action.status))
            return Outcome(verb=Verb.DONE)
        if self.dry_run:
            return Outcome(verb=Verb.DONE)
        body = {
            "apiVersion": FLEET_API_VERSION,
            "kind": SYNC_KIND,
            "metadata": {"name": action.name, "resourceVersion": action.resource_version},
            "status": dict(action.status),
        }
        path = f"{SYNCS}/{action.name}"
        answer = await self.kube.replace(f"{path}/status", body, field_manager=MANAGER_RECONCILER)
        return await self._absorbed(self.syncs, path, answer)

    async def _absorbed(self, informer: Informer[Any], path: str, answer: Response) -> Outcome:
        """What was written is read at once; what was refused is read anew, so that the next decision is no repetition."""
        outcome = outcome_of(answer)
        informer.wrote(answer if outcome.verb is Verb.DONE else await self.kube.get(path))
        return outcome


def outcome_of(answer: Response) -> Outcome:
    """What the server's answer to a write means."""
    verbs = {0: Verb.UNKNOWN, 404: Verb.GONE, 409: Verb.CONFLICT}
    verb = Verb.DONE if answer.ok else verbs.get(answer.code, Verb.REFUSED)
    message = "" if answer.ok else answer.message
    return Outcome(verb=verb, code=answer.code, resource_version=answer.resource_version, message=message)
