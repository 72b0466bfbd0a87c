"""What the chart's roles allow, asked of the API server: no more than one writer per field."""

import asyncio

import pytest

from schema.names import (
    DRIVER_GROUP,
    FLEET_GROUP,
    SERVICE_ACCOUNT_BUILDER,
    SERVICE_ACCOUNT_OPERATOR,
    SERVICE_ACCOUNT_RECONCILER,
)

pytestmark = pytest.mark.e2e

OPERATOR, RECONCILER, BUILDER = SERVICE_ACCOUNT_OPERATOR, SERVICE_ACCOUNT_RECONCILER, SERVICE_ACCOUNT_BUILDER
POLICIES, SYNCS = f"{DRIVER_GROUP}/tenstorrentdriverpolicies", f"{FLEET_GROUP}/fleetsyncs"
OWN, ELSEWHERE = "own", "default"

#: (account, verbs, group/resource[/subresource], namespace)
ALLOWED = [
    (BUILDER, "get patch", "/nodes", ""),
    (OPERATOR, "get list watch patch", "/nodes", ""),
    (OPERATOR, "get list watch delete", "/pods", ELSEWHERE),
    (OPERATOR, "create", "/pods/eviction", ELSEWHERE),
    (OPERATOR, "create", "/pods", OWN),
    (OPERATOR, "get list watch create patch", "apps/daemonsets", OWN),
    (OPERATOR, "create patch", "/events", ELSEWHERE),
    (OPERATOR, "get list watch", POLICIES, ""),
    (OPERATOR, "patch", POLICIES + "/status", ""),
    (OPERATOR, "get list watch", SYNCS, ""),
    (OPERATOR, "get create update patch", "coordination.k8s.io/leases", OWN),
    (RECONCILER, "get list watch create patch delete", POLICIES, ""),
    (RECONCILER, "get list watch", SYNCS, ""),
    (RECONCILER, "patch", SYNCS + "/status", ""),
    (RECONCILER, "get list watch", "/nodes", ""),
    (RECONCILER, "get list watch", "/pods", ELSEWHERE),
    (RECONCILER, "get create patch", "coordination.k8s.io/leases", OWN),
]
FORBIDDEN = [
    (BUILDER, "list watch create update delete", "/nodes", ""),
    (BUILDER, "patch update", "/nodes/status", ""),
    (BUILDER, "get create delete", "/pods", OWN),
    (BUILDER, "get list", "/secrets", OWN),
    (BUILDER, "create", "/events", OWN),
    (BUILDER, "get", POLICIES, ""),
    (BUILDER, "impersonate", "/users", ""),
    (OPERATOR, "create update delete", "/nodes", ""),
    (OPERATOR, "patch update", "/nodes/status", ""),
    (OPERATOR, "create patch update", "/pods", ELSEWHERE),
    (OPERATOR, "patch update", "/pods", OWN),
    (OPERATOR, "get create", "/pods/exec", OWN),
    (OPERATOR, "get list", "/secrets", OWN),
    (OPERATOR, "get list create patch update delete", "apps/daemonsets", ELSEWHERE),
    (OPERATOR, "create patch update delete", POLICIES, ""),  # git owns the spec
    (OPERATOR, "create patch update delete", SYNCS, ""),
    (OPERATOR, "patch update", SYNCS + "/status", ""),  # the reconciler's
    (OPERATOR, "create patch", "coordination.k8s.io/leases", "kube-node-lease"),
    (OPERATOR, "create", "/serviceaccounts/token", OWN),
    (OPERATOR, "impersonate", "/serviceaccounts", OWN),
    (OPERATOR, "create patch bind escalate", "rbac.authorization.k8s.io/clusterroles", ""),
    (OPERATOR, "create patch", "apiextensions.k8s.io/customresourcedefinitions", ""),
    (OPERATOR, "delete patch", "admissionregistration.k8s.io/validatingadmissionpolicybindings", ""),
    (RECONCILER, "patch update create delete", "/nodes", ""),
    (RECONCILER, "create patch delete", "/pods", OWN),
    (RECONCILER, "create", "/pods/eviction", ELSEWHERE),
    (RECONCILER, "patch update", POLICIES + "/status", ""),  # the operator's
    (RECONCILER, "create patch update delete", SYNCS, ""),  # the chart's
    (RECONCILER, "get list", "/secrets", OWN),
    (RECONCILER, "create patch", "apps/daemonsets", OWN),
    (RECONCILER, "impersonate", "/users", ""),
]


async def may(kube, account, verb, resource, namespace, home):
    group, name, *subresource = resource.split("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": name,
        "subresource": "".join(subresource),
        "namespace": home if namespace == OWN else namespace,
    }
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
    spec = {
        "user": f"system:serviceaccount:{home}:{account}",
        "groups": groups,
        "resourceAttributes": attributes,
    }
    answer = await kube.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
    assert answer.ok, answer
    return answer.body["status"]["allowed"]


@pytest.mark.parametrize(
    ("expected", "table"), [(True, ALLOWED), (False, FORBIDDEN)], ids=["allowed", "forbidden"]
)
def test_roles(connect, system_namespace, expected, table):
    async def main():
        async with connect() as kube:
            return [
                (account, verb, resource, namespace)
                for account, verbs, resource, namespace in table
                for verb in verbs.split()
                if await may(kube, account, verb, resource, namespace, system_namespace) is not expected
            ]

    assert asyncio.run(main()) == []
