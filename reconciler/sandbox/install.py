"""Installs ttfleet into a control plane: the very files of the chart, by server-side apply, as an administrator."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from ruamel.yaml import YAML

from reconciler.adapters.kube import Kube
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.shipped import shipped

MANAGER: Final = "ttfleet-chart"
ACTIVE_BOUND_S: Final = 30.0
#: kind -> path of its objects
COLLECTIONS: Final = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


def documents(namespace: str) -> Iterator[dict[str, Any]]:
    """What is installed, in order: namespace, CRDs, then everything in the chart's `files/`."""
    chart = shipped("chart")
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    for place in (*sorted((chart / "crds").glob("*.yaml")), *sorted((chart / "files").glob("*.yaml"))):
        text = place.read_text(encoding="utf-8").replace("NAMESPACE", namespace)
        yield from (document for document in YAML(typ="safe").load_all(text) if document)


async def install(kube: Kube, *, namespace: str) -> None:
    """Apply `documents`, then wait until the CRDs are served.

    Raises:
        SandboxError: the server refused a document; with its name and the answer.
        SandboxTimeoutError: not served within `ACTIVE_BOUND_S`.
    """
    for document in documents(namespace):
        await _apply(kube, document)
    for document in documents(namespace):
        if document["kind"] == "CustomResourceDefinition":
            await _wait_for(kube, document["metadata"]["name"], collection(document))


async def fenced(builder: Kube) -> None:
    """Wait until the fence holds for `builder`, who is the builder by name and an administrator by group.

    Raises:
        SandboxTimeoutError: it still may create a ConfigMap after `ACTIVE_BOUND_S`.
    """
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fence-probe"}}
    deadline = time.monotonic() + ACTIVE_BOUND_S
    while (await builder.create(path, body)).code != HTTPStatus.FORBIDDEN:
        if time.monotonic() > deadline:
            raise SandboxTimeoutError(f"the builder's fence does not hold after {ACTIVE_BOUND_S:.0f} s")
        await asyncio.sleep(0.05)


def collection(definition: Mapping[str, Any]) -> str:
    """Path of the objects of a CustomResourceDefinition, in its first served version."""
    spec = definition["spec"]
    version = next(version["name"] for version in spec["versions"] if version["served"])
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"


async def _apply(kube: Kube, document: Mapping[str, Any]) -> None:
    metadata = document["metadata"]
    path = COLLECTIONS[document["kind"]].format(namespace=metadata.get("namespace", ""))
    answer = await kube.apply(f"{path}/{metadata['name']}", dict(document), field_manager=MANAGER, force=True)
    if not answer.ok:
        name = f"{document['kind']} {metadata['name']}"
        raise SandboxError(f"{name}: the API server answered {answer.code}: {answer.message}")


async def _wait_for(kube: Kube, name: str, path: str) -> None:
    deadline = time.monotonic() + ACTIVE_BOUND_S
    while not (await kube.get(path, limit=1)).ok:
        if time.monotonic() > deadline:
            raise SandboxTimeoutError(f"{name}: not served within {ACTIVE_BOUND_S:.0f} s")
        await asyncio.sleep(0.05)
