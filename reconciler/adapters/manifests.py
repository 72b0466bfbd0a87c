"""Manifests of what the operator creates: stage and swap pods, and the DaemonSet that keeps the module (design, section 3)."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reconciler.core.actions import CreatePod
from reconciler.core.world import PodRole
from schema.names import (
    ANNOTATION_POD_ATTEMPT,
    ANNOTATION_POD_TARGET,
    ANNOTATION_POD_TXN,
    APP_INSTALLER,
    COMPONENT_DRIVER,
    ENV_BOOT_ID,
    ENV_COMMIT,
    ENV_FORCE_UNLOAD,
    ENV_HOST_ROOT,
    ENV_KMD_VERSION,
    ENV_NODE_NAME,
    ENV_REPOSITORY,
    ENV_TXN_ID,
    KEEPER_DAEMONSET,
    LABEL_APP,
    LABEL_COMPONENT,
    LABEL_CR,
    LABEL_MANAGED_BY,
    LABEL_POD_ROLE,
    LABEL_PRESENT,
    LABEL_SKIP,
    SERVICE_ACCOUNT_BUILDER,
)

HOST_ROOT = "/host"
GRACE_S = 600  # a swap that has begun its claim finishes: SIGTERM is not the end of it
STAGE_CPUS = "2"
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
ANNOTATION_TEMPLATE_HASH = "driver.tenstorrent.com/template-hash"  # upstream's name
ANNOTATION_MANIFEST = "fleet.tenstorrent.com/manifest"  # digest of all that was applied
MANAGED_BY = "ttfleet"


def worker_pod(
    action: CreatePod, *, namespace: str, default_image: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """A stage pod, or the bare worker pod of one attempt.

    Args:
        action: what the decision asks for.
        namespace: of the operator.
        default_image: builder image where the action names none.
        environment: the operator's own; only proxy settings are taken from it.
    """
    annotations = {
        ANNOTATION_POD_TARGET: json.dumps(action.target.to_json(), sort_keys=True, separators=(",", ":")),
        ANNOTATION_POD_ATTEMPT: str(action.attempt),
    }
    if action.txn_id:
        annotations[ANNOTATION_POD_TXN] = action.txn_id
    variables = _worker_environment(action) | proxy_environment(environment)
    spec = _pod_spec(
        args=[str(action.role)],
        image=action.image or default_image,
        pull_policy=action.image_pull_policy or "IfNotPresent",
        env=[{"name": name, "value": value} for name, value in variables.items()],
        cpus=STAGE_CPUS if action.role is PodRole.STAGE else None,
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": action.name,
            "namespace": namespace,
            "labels": {**_labels(action.role), LABEL_CR: action.cr},
            "annotations": annotations,
        },
        "spec": {**spec, "nodeName": action.node, "restartPolicy": "Never"},
    }


def keeper(
    image: str, template_hash: str, *, namespace: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """DaemonSet `ttdrv-keep`: no version in its template, so that no upgrade ever restarts it."""
    labels = _labels(PodRole.KEEP)
    own_node = {"name": ENV_NODE_NAME, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    variables = {ENV_HOST_ROOT: HOST_ROOT} | proxy_environment(environment)
    spec = _pod_spec(
        args=["keep"],
        image=image,
        pull_policy="IfNotPresent",
        env=[own_node, *({"name": name, "value": value} for name, value in variables.items())],
        cpus=None,
    )
    spec["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["python", "-m", "builder", "ready"]},
        "initialDelaySeconds": 2,
        "periodSeconds": 10,
        "timeoutSeconds": 10,
    }
    manifest: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": KEEPER_DAEMONSET,
            "namespace": namespace,
            "labels": labels,
            "annotations": {ANNOTATION_TEMPLATE_HASH: template_hash},
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": labels}, "spec": {**spec, "affinity": _tenstorrent_nodes()}},
        },
    }
    manifest["metadata"]["annotations"][ANNOTATION_MANIFEST] = _digest(manifest)
    return manifest


def keeper_hash(
    daemonset: Mapping[str, Any] | None, *, namespace: str, environment: Mapping[str, str]
) -> str:
    """Template hash of the DaemonSet as it stands: "" without one, `stale` where this code would apply another."""
    if daemonset is None:
        return ""
    annotations = daemonset["metadata"].get("annotations") or {}
    containers = daemonset["spec"]["template"]["spec"]["containers"]
    stands = annotations.get(ANNOTATION_TEMPLATE_HASH, "stale")
    wanted = keeper(containers[0]["image"], stands, namespace=namespace, environment=environment)
    same = annotations.get(ANNOTATION_MANIFEST) == wanted["metadata"]["annotations"][ANNOTATION_MANIFEST]
    return str(stands) if same else "stale"


def proxy_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxy settings among the operator's variables, each in both cases: git reads one, Python the other."""
    found = {name: environment.get(name) or environment.get(name.lower()) for name in PROXIES}
    return {spelling: value for name, value in found.items() if value for spelling in (name, name.lower())}


def _worker_environment(action: CreatePod) -> dict[str, str]:
    pairs = {
        ENV_NODE_NAME: action.node,
        ENV_HOST_ROOT: HOST_ROOT,
        ENV_KMD_VERSION: action.target.version,
        ENV_REPOSITORY: action.target.repository,
        ENV_COMMIT: action.target.commit,
        ENV_TXN_ID: action.txn_id,
        ENV_BOOT_ID: action.boot_id,
        ENV_FORCE_UNLOAD: "true" if action.force_unload else None,
    }
    return {name: value for name, value in pairs.items() if value}


def _labels(role: PodRole) -> dict[str, str]:
    return {
        LABEL_APP: APP_INSTALLER,
        LABEL_COMPONENT: COMPONENT_DRIVER,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_POD_ROLE: str(role),
    }


def _pod_spec(
    *, args: list[str], image: str, pull_policy: str, env: list[dict[str, Any]], cpus: str | None
) -> dict[str, Any]:
    """What keeper, stage and swap pods have in common.

    No resource requests: a pod with nodeName passes the kubelet's admission only, where a critical pod that asks for
    more than is free makes the kubelet kill workloads.
    """
    container: dict[str, Any] = {
        "name": "builder",
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": args,
        "env": env,
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "host", "mountPath": HOST_ROOT, "mountPropagation": "HostToContainer"}],
    }
    if cpus:
        container["resources"] = {"requests": {"cpu": "0"}, "limits": {"cpu": cpus}}
    return {
        "serviceAccountName": SERVICE_ACCOUNT_BUILDER,
        "hostPID": True,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": GRACE_S,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}],
    }


def _tenstorrent_nodes() -> dict[str, Any]:
    expressions = [
        {"key": LABEL_PRESENT, "operator": "In", "values": ["true"]},
        {"key": LABEL_SKIP, "operator": "DoesNotExist"},
    ]
    term = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
