"""The real `Cluster`: snapshots from informers, acts as single requests, our own writes visible at once."""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, assert_never

from reconciler.adapters import manifests
from reconciler.adapters.informer import Informer, all_running, all_synced
from reconciler.adapters.kube import Kube, Response
from reconciler.adapters.lease import COLLECTION, LeaseObserver, lease_body
from reconciler.adapters.store import Raw
from reconciler.adapters.views import node_view, pod_view, policy_view
from reconciler.core.actions import (
    Action,
    ApplyKeeper,
    CreatePod,
    DeletePod,
    EvictPod,
    Outcome,
    RenewLease,
    ScanNodes,
    TakeLease,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.node.fence import foreign_reserved
from reconciler.core.node.memory import absorb
from reconciler.core.world import NodeView, PodView, Settings, Term, World
from reconciler.operator.rests import Rests
from reconciler.operator.writes import (
    creation_outcome,
    deletion_outcome,
    eviction,
    eviction_outcome,
    node_patch,
    outcome_of,
)
from schema.names import (
    ANNOTATION_HOLD,
    DRIVER_API_VERSION,
    FLEET_API_VERSION,
    KEEPER_DAEMONSET,
    LEASE_OPERATOR,
    MANAGER_OPERATOR,
    POLICY_KIND,
    POLICY_PLURAL,
    SYNC_PLURAL,
)

NODES = "/api/v1/nodes"
POLICIES = f"/apis/{DRIVER_API_VERSION}/{POLICY_PLURAL}"
SYNCS = f"/apis/{FLEET_API_VERSION}/{SYNC_PLURAL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncView:
    """What the operator reads of a FleetSync: whether anything may start, and who counts (the oldest)."""

    created: str
    name: str
    held: str
    observe: bool


def sync_view(sync: Raw) -> SyncView:
    metadata, spec = sync["metadata"], sync.get("spec") or {}
    held = (metadata.get("annotations") or {}).get(ANNOTATION_HOLD, "")
    if spec.get("suspend"):
        held = held or f"FleetSync {metadata['name']} is suspended"
    return SyncView(
        created=metadata.get("creationTimestamp", ""),
        name=metadata["name"],
        held=held,
        observe=spec.get("mode") != "Enforce",
    )


def _unchanged(lease: Raw) -> Raw:
    return lease


def without_version(node: NodeView) -> NodeView:
    """What of a node a decision depends on: a kubelet's heartbeat is no news."""
    return replace(node, resource_version="")


class Server:
    """A `reconciler.core.actions.Cluster` on an API server.

    Attributes:
        term: what this process remembers.
        heard: called with every outcome, for logs, metrics and Events.
    """

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        term: Term,
        *,
        changed: Callable[[], None],
        heard: Callable[[Action, Outcome], None],
        environment: Mapping[str, str] = os.environ,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.term = term
        self.heard = heard
        self._kube = kube
        self._settings = settings
        self._environment = environment
        self._wall = wall
        self._observer = LeaseObserver()
        self._rests = Rests()
        namespace = settings.namespace
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self._keeper_path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
        self._leases_path = COLLECTION.format(namespace=namespace)
        watch = partial(Informer, kube, changed=changed)
        self.nodes = watch(NODES, node_view, material=without_version)
        self.pods = watch(
            "/api/v1/pods",
            partial(pod_view, gates=settings.gates, namespace=namespace),
            fieldSelector="spec.nodeName!=",
        )
        self.policies = watch(POLICIES, policy_view)
        self.syncs = watch(SYNCS, sync_view)
        self.keepers = watch(
            self._keeper_path, self._keeper_hash, fieldSelector=f"metadata.name={KEEPER_DAEMONSET}"
        )
        self.leases: Informer[Raw] = watch(
            self._leases_path, _unchanged, fieldSelector=f"metadata.name={LEASE_OPERATOR}"
        )
        self._by_node: tuple[int, dict[str, tuple[PodView, ...]]] = (-1, {})

    @property
    def informers(self) -> tuple[Informer[Any], ...]:
        return (self.nodes, self.pods, self.policies, self.syncs, self.keepers, self.leases)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        """Informers run for as long as the block."""
        async with all_running(self.informers):
            yield self

    async def synced(self) -> None:
        """Until every collection has been listed once."""
        await all_synced(self.informers)

    async def snapshot(self) -> World:
        sync = min(self.syncs.store, key=lambda view: (view.created, view.name), default=None)
        lease = self.leases.store.get(f"{self._settings.namespace}/{LEASE_OPERATOR}")
        return World(
            policies={policy.name: policy for policy in self.policies.store},
            nodes={node.name: node for node in self.nodes.store},
            pods=self._pods_by_node(),
            lease=self._observer.view(lease, time.monotonic()),
            term=self.term,
            settings=replace(self._settings, observe=sync is not None and sync.observe),
            held=sync.held if sync else "",
            keeper=next(iter(self.keepers.store), ""),
        )

    async def act(self, action: Action) -> Outcome:
        outcome = self._rests.instead(action)
        if outcome is None:
            outcome = await self._send(action)
            self._rests.note(action, outcome)
        return outcome

    async def _send(self, action: Action) -> Outcome:
        match action:
            case WriteNode():
                return await self._write_node(action)
            case TakeLease():
                return await self._take_lease(action)
            case RenewLease():
                return await self._patch_lease(action.holder, action.resource_version)
            case ScanNodes():
                return await self._scan()
            case CreatePod():
                return await self._create_pod(action)
            case DeletePod():
                return await self._delete_pod(action)
            case EvictPod():
                path = f"/api/v1/namespaces/{action.namespace}/pods/{action.name}/eviction"
                return eviction_outcome(await self._kube.create(path, eviction(action)))
            case ApplyKeeper():
                return await self._apply_keeper(action)
            case WriteStatus():
                return await self._write_status(action)
        assert_never(action)

    def absorb(self, action: Action, outcome: Outcome, now: float) -> None:
        self.term = absorb(self.term, action, outcome, now)
        self.heard(action, outcome)

    async def resign(self) -> None:
        """Give the Lease up, so that another operator need not wait for its age. Losing it is always safe."""
        if self.term.lease_version is not None:
            await self._patch_lease("", self.term.lease_version)
        self.term = Term(identity=self.term.identity)

    def _pods_by_node(self) -> dict[str, tuple[PodView, ...]]:
        revision, found = self._by_node
        if revision != self.pods.store.revision:
            grouped: dict[str, list[PodView]] = {}
            for pod in self.pods.store:
                grouped.setdefault(pod.node, []).append(pod)
            found = {node: tuple(pods) for node, pods in grouped.items()}
            self._by_node = (self.pods.store.revision, found)
        return found

    def _keeper_hash(self, daemonset: Raw) -> str:
        return manifests.keeper_hash(
            daemonset, namespace=self._settings.namespace, environment=self._environment
        )

    async def _write_node(self, action: WriteNode) -> Outcome:
        path = f"{NODES}/{action.node}"
        response = await self._kube.patch(path, node_patch(action), field_manager=MANAGER_OPERATOR)
        outcome = outcome_of(response)
        if outcome.verb in {Verb.CONFLICT, Verb.UNKNOWN}:
            response = await self._kube.get(
                path
            )  # decided anew on what is there, without waiting for the watch
        self.nodes.wrote(response)
        return outcome

    async def _take_lease(self, action: TakeLease) -> Outcome:
        if action.resource_version is not None:
            return await self._patch_lease(action.holder, action.resource_version, acquire=True)
        body = self._lease(action.holder, None, acquire=True)
        response = await self._kube.create(self._leases_path, body, field_manager=MANAGER_OPERATOR)
        self.leases.wrote(response)
        return outcome_of(response)

    async def _patch_lease(self, holder: str, resource_version: str, *, acquire: bool = False) -> Outcome:
        response = await self._kube.patch(
            f"{self._leases_path}/{LEASE_OPERATOR}",
            self._lease(holder, resource_version, acquire=acquire),
            field_manager=MANAGER_OPERATOR,
        )
        self.leases.wrote(response)
        return outcome_of(response)

    def _lease(self, holder: str, resource_version: str | None, *, acquire: bool) -> dict[str, Any]:
        return lease_body(
            LEASE_OPERATOR,
            holder,
            self._wall(),
            duration_s=self._settings.lease_duration_s,
            resource_version=resource_version,
            acquire=acquire,
        )

    async def _scan(self) -> Outcome:
        outcome = outcome_of(await self.nodes.relist())
        if outcome.verb is not Verb.DONE:
            return outcome
        return replace(outcome, foreign_reserved=foreign_reserved(await self.snapshot()))

    async def _create_pod(self, action: CreatePod) -> Outcome:
        body = manifests.worker_pod(
            action,
            namespace=self._settings.namespace,
            default_image=self._settings.image,
            environment=self._environment,
        )
        response = await self._kube.create(self._pods_path, body, field_manager=MANAGER_OPERATOR)
        if response.code == 409:
            self.pods.wrote(await self._kube.get(f"{self._pods_path}/{action.name}"))
        self.pods.wrote(response)
        return creation_outcome(response)

    async def _delete_pod(self, action: DeletePod) -> Outcome:
        path = f"/api/v1/namespaces/{action.namespace}/pods/{action.name}"
        response = await self._kube.delete(path, uid=action.uid)
        if _only_terminating(response):
            self.pods.wrote(response)
        return deletion_outcome(response)

    async def _apply_keeper(self, action: ApplyKeeper) -> Outcome:
        body = manifests.keeper(
            action.image,
            action.template_hash,
            namespace=self._settings.namespace,
            environment=self._environment,
        )
        path = f"{self._keeper_path}/{KEEPER_DAEMONSET}"
        response = await self._kube.apply(path, body, field_manager=MANAGER_OPERATOR, force=True)
        self.keepers.wrote(response)
        return outcome_of(response)

    async def _write_status(self, action: WriteStatus) -> Outcome:
        """A PUT: what the status no longer says must go, and a merge patch would keep it."""
        body = {
            "apiVersion": DRIVER_API_VERSION,
            "kind": POLICY_KIND,
            "metadata": {"name": action.policy, "resourceVersion": action.resource_version},
            "status": dict(action.status),
        }
        path = f"{POLICIES}/{action.policy}"
        response = await self._kube.replace(f"{path}/status", body, field_manager=MANAGER_OPERATOR)
        outcome = outcome_of(response)
        self.policies.wrote(
            await self._kube.get(path) if outcome.verb in {Verb.CONFLICT, Verb.UNKNOWN} else response
        )
        return outcome


def _only_terminating(response: Response) -> bool:
    """Whether a DELETE left an object that another event will end; one that has gone must not enter the store."""
    metadata = response.body.get("metadata") or {}
    return response.ok and bool(metadata.get("deletionGracePeriodSeconds"))
