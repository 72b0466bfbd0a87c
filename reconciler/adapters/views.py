"""Raw API objects as the frozen values that decisions look at. Nothing here raises on what a server may serve.

An annotation that does not parse counts as absent and is named in `faults`; a spec that does not, in `spec_fault`.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, Self, TypeVar

from reconciler.adapters.shapes import misfit
from reconciler.core.world import CordonOwner, NodeView, PodRole, PodView, PolicyView
from schema.clock import parse_rfc3339
from schema.facts import HostFacts
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HISTORY,
    ANNOTATION_HOST_FACTS,
    ANNOTATION_POD_ATTEMPT,
    ANNOTATION_POD_TARGET,
    ANNOTATION_POD_TXN,
    ANNOTATION_TXN,
    DEVICE_DIRECTORY,
    DEVICE_RESOURCE_PREFIX,
    LABEL_POD_ROLE,
    LABEL_USES_DEVICE,
    MANAGER_OPERATOR,
)
from schema.policy import PolicySpec
from schema.target import Target
from schema.transaction import Claim, History, Record
from schema.verdict import Verdict

Raw = Mapping[str, Any]


class FromJson(Protocol):
    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self: ...


T = TypeVar("T", bound=FromJson)
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
#: An object whose managedFields somebody has emptied is tracked no longer: we could not tell our cordon from theirs
UNTRACKED = (
    "metadata.managedFields is empty, so nobody can tell who cordons: server-side apply any field once"
)
ROLES = {role.value: role for role in PodRole}
READ_LIMIT = 8192  # annotations kept as read: facts and history of 4,000 nodes


def node_view(node: Raw) -> NodeView:
    metadata, status = node["metadata"], node.get("status") or {}
    annotations = metadata.get("annotations") or {}
    ready: Raw = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    faults: list[str] = []

    def read(name: str, kind: type[T]) -> T | None:
        return _annotation(annotations, name, kind, faults)

    if not metadata.get("managedFields") and ANNOTATION_TXN not in annotations:
        faults.append(UNTRACKED)
    return NodeView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        labels=metadata.get("labels") or {},
        annotations=annotations,
        cordon=cordon_owner(node),
        ready=ready.get("status") == "True",
        ready_since=_seconds(ready.get("lastTransitionTime")),
        boot_id=(status.get("nodeInfo") or {}).get("bootID", ""),
        record=read(ANNOTATION_TXN, Record),
        claim=read(ANNOTATION_CLAIM, Claim),
        history=read(ANNOTATION_HISTORY, History) or History(),
        facts=read(ANNOTATION_HOST_FACTS, HostFacts),
        faults=tuple(faults),
    )


def cordon_owner(node: Raw) -> CordonOwner:
    """Who set `spec.unschedulable`, by managedFields: ours only while nobody else holds the field too."""
    if not (node.get("spec") or {}).get("unschedulable"):
        return CordonOwner.NOBODY
    owners = {
        entry.get("manager")
        for entry in node["metadata"].get("managedFields") or ()
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }
    return CordonOwner.OURS if owners == {MANAGER_OPERATOR} else CordonOwner.FOREIGN


def pod_view(pod: Raw, *, gates: Iterable[str] = (), namespace: str = "") -> PodView:
    """One pod.

    Args:
        pod: as served.
        gates: the deploy-gate labels that `gated` asks about.
        namespace: the only one whose pods may be ours; "" for any. Elsewhere anybody may write our labels.
    """
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    role = ROLES.get(labels.get(LABEL_POD_ROLE, ""), PodRole.WORKLOAD)
    if namespace and metadata["namespace"] != namespace:
        role = PodRole.WORKLOAD
    owner: Raw = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
    main: Raw = next(iter(status.get("containerStatuses") or ()), {})
    ended = (main.get("state") or {}).get("terminated") or {}
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        role=role,
        labels=labels,
        owner=f"{owner.get('kind')}/{owner.get('uid')}" if owner else "",
        phase=status.get("phase") or "Pending",
        ready=conditions.get("Ready") == "True",
        terminating="deletionTimestamp" in metadata,
        uses_device=uses_device(pod),
        daemonset=owner.get("kind") == "DaemonSet",
        mirror=MIRROR_ANNOTATION in annotations,
        empty_dir=any("emptyDir" in volume for volume in spec.get("volumes") or ()),
        started_at=_seconds(status.get("startTime") or metadata.get("creationTimestamp")),
        finished_at=_seconds(ended.get("finishedAt")),
        stuck_reason=_stuck_reason(status),
        txn_id=annotations.get(ANNOTATION_POD_TXN, ""),
        target_digest=_target_digest(annotations.get(ANNOTATION_POD_TARGET)),
        attempt=_integer(annotations.get(ANNOTATION_POD_ATTEMPT)),
        verdict=None if role is PodRole.WORKLOAD else _verdict(ended.get("message")),
        gated=_gated(spec, frozenset(gates)),
    )


def uses_device(pod: Raw) -> bool:
    """Whether a pod may hold a Tenstorrent device: mount, extended resource, DRA claim, or the documented label."""
    spec = pod.get("spec") or {}
    if (pod["metadata"].get("labels") or {}).get(LABEL_USES_DEVICE) == "true":
        return True
    if spec.get("resourceClaims"):
        return True
    paths = ((volume.get("hostPath") or {}).get("path", "") for volume in spec.get("volumes") or ())
    return any(_reaches_device(path) for path in paths) or any(_asks_for_device(c) for c in _containers(spec))


def policy_view(policy: Raw) -> PolicyView:
    metadata = policy["metadata"]
    spec, fault = PolicySpec(version=""), ""
    try:
        spec = PolicySpec.from_json(policy.get("spec") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"spec cannot be read: {error!r}"
    return PolicyView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        spec=spec,
        status=policy.get("status") or {},
        deleting="deletionTimestamp" in metadata,
        spec_fault=fault,
    )


def _annotation(annotations: Mapping[str, str], name: str, kind: type[T], faults: list[str]) -> T | None:
    text = annotations.get(name)
    if text is None:
        return None
    try:
        value: T = _read(kind, text)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        faults.append(f"{name}: {type(error).__name__}: {error}")
        return None
    return value


@lru_cache(maxsize=READ_LIMIT)
def _read(kind: Any, text: str) -> Any:
    """The value, with every field of the type that it declares. A heartbeat or a new list changes no annotation.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, RecursionError: it is none.
    """
    value = kind.from_json(json.loads(text))
    if said := misfit(value, kind):
        raise TypeError(said)
    return value


def _reaches_device(path: str) -> bool:
    """At or below the directory."""
    return f"{path.rstrip('/')}/".startswith(f"{DEVICE_DIRECTORY}/")


def _containers(spec: Raw) -> list[Raw]:
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


def _asks_for_device(container: Raw) -> bool:
    resources = container.get("resources") or {}
    names = {*(resources.get("requests") or ()), *(resources.get("limits") or ())}
    return any(name.startswith(DEVICE_RESOURCE_PREFIX) for name in names)


def _gated(spec: Raw, gates: frozenset[str]) -> bool:
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    keys = {
        expression.get("key")
        for term in affinity.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    }
    return bool(gates & keys)


def _stuck_reason(status: Raw) -> str:
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in statuses:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason not in {"", "PodInitializing", "ContainerCreating"}:
            return str(reason)
    return ""


def _verdict(message: str | None) -> Verdict | None:
    """The last line of a termination message; kubelets may put log output before it."""
    lines = (message or "").strip().splitlines()
    try:
        return _read(Verdict, lines[-1]) if lines else None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _target_digest(text: str | None) -> str:
    try:
        return Target.from_json(json.loads(text)).digest if text else ""
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return ""


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _seconds(text: str | None) -> float:
    try:
        return parse_rfc3339(text) if text else 0.0
    except ValueError:
        return 0.0
