"""What the API server makes of our CRDs: the seed's manifest as it stands, and each rule with its message."""

import asyncio
import subprocess

import pytest

from reconciler.sandbox.binaries import find_or_build
from schema.names import DRIVER_API_VERSION, FLEET_API_VERSION, POLICY_KIND, SYNC_KIND

pytestmark = pytest.mark.e2e

POLICIES = f"/apis/{DRIVER_API_VERSION}/tenstorrentdriverpolicies"
SYNCS = f"/apis/{FLEET_API_VERSION}/fleetsyncs"
SEED = {
    "version": "2.8.0",
    "nodeAffinity": {"matchLabels": {"kubernetes.io/hostname": "node-1"}},
    "paused": True,
    "upgradePolicy": {"drain": {"enable": True}},
}
PIN = {"repository": "https://example.com/kmd.git", "commit": "a" * 40}
LONG = {
    "matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [f"node-{i}" for i in range(200)]}
    ]
}

TAKEN = {
    "the seed's": SEED,
    "every Tenstorrent node": {"version": "2.8.0", "nodeAffinity": {}},
    "the older name": {"version": "2.8.0", "nodeSelector": {"matchLabels": {"a": "b"}}},
    "no version under mode host": {"mode": "host", "nodeAffinity": {}},
    "a shard of 200 nodes": {"version": "2.8.0", "nodeAffinity": LONG},
    "everything": {
        **SEED, "mode": "container", "vacate": "Once", "waiting": True, "source": PIN, "unmanage": False,
        "budgets": [{"group": "g", "maxUnavailable": 2}], "installer": {"image": "i", "imagePullPolicy": "Always"},
    },
}  # fmt: skip
REFUSED = {
    "both selectors": ({**SEED, "nodeSelector": {}}, "exactly one of"),
    "no selector": ({"version": "2.8.0"}, "exactly one of"),
    "no version": ({"nodeAffinity": {}}, "version is required"),
    "a short version": ({**SEED, "version": "2.8"}, "should match"),
    "a leading v": ({**SEED, "version": "v2.8.0"}, "should match"),
    "another mode": ({**SEED, "mode": "both"}, "Unsupported value"),
    "a source without commit": ({**SEED, "source": {"repository": "x"}}, "commit: Required"),
    "an abbreviated commit": ({**SEED, "source": {**PIN, "commit": "abc123"}}, "should match"),
    "a budget of 0": (
        {**SEED, "budgets": [{"group": "g", "maxUnavailable": 0}]},
        "greater than or equal to 1",
    ),
    "In without values": (
        {"version": "2.8.0", "nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        "need values",
    ),
    "Exists with values": (
        {
            "version": "2.8.0",
            "nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
        },
        "take none",
    ),
    "a drain of no time": (
        {**SEED, "upgradePolicy": {"drain": {"timeoutSeconds": 0}}},
        "greater than or equal to 1",
    ),
}


def policy(spec, name="p"):
    return {"apiVersion": DRIVER_API_VERSION, "kind": POLICY_KIND, "metadata": {"name": name}, "spec": spec}


def sync(spec):
    return {"apiVersion": FLEET_API_VERSION, "kind": SYNC_KIND, "metadata": {"name": "s"}, "spec": spec}


@pytest.fixture
def ask(connect):
    """A dry run: `ask(path, body)`."""

    def once(path, body):
        async def main():
            async with connect() as kube:
                return await kube.create(path + "?dryRun=All&fieldValidation=Strict", body)

        return asyncio.run(main())

    return once


@pytest.mark.parametrize("case", TAKEN)
def test_taken(ask, case):
    answer = ask(POLICIES, policy(TAKEN[case]))
    assert answer.ok, answer.message
    assert answer.body["spec"] == TAKEN[case], "the server changed what was applied"


@pytest.mark.parametrize("case", REFUSED)
def test_refused(ask, case):
    spec, words = REFUSED[case]
    answer = ask(POLICIES, policy(spec))
    assert answer.code == 422
    assert words in answer.message


def test_a_name_that_is_too_long_for_a_label(ask):
    answer = ask(POLICIES, policy(SEED, "p" * 64))
    assert (answer.code, "63" in answer.message) == (422, True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {
                "url": "https://example.com/f.git",
                "ref": "main",
                "cluster": "a",
                "interval": "1m30s",
                "prune": True,
                "secretRef": {"name": "s"},
            },
            "",
        ),
        ({"path": "/fleet"}, ""),
        ({}, "exactly one of"),
        ({"url": "https://example.com/f.git", "path": "/fleet"}, "exactly one of"),
        ({"path": "/fleet", "secretRef": {"name": "s"}}, "secretRef goes with url"),
        ({"url": "ext::sh -c x"}, "only https"),
        ({"url": "file:///etc"}, "only https"),
        ({"url": "https://example.com/f.git", "ref": "--upload-pack=x"}, "should match"),
        ({"url": "https://example.com/f.git", "mode": "Force"}, "Unsupported value"),
        ({"url": "https://example.com/f.git", "interval": "soon"}, "should match"),
    ],
)
def test_a_fleet_sync(ask, spec, words):
    answer = ask(SYNCS, sync(spec))
    if words:
        assert (answer.code, words in answer.message) == (422, True), answer.message
    else:
        assert answer.ok, answer.message
        assert answer.body["spec"]["mode"] == "Observe"


def test_the_cluster_of_a_fleet_sync_stays(connect):
    async def main():
        async with connect() as kube:
            made = await kube.create(SYNCS, sync({"path": "/fleet", "cluster": "a"}))
            assert made.ok, made.message
            try:
                for spec in ({"cluster": "b"}, {"cluster": None}):
                    answer = await kube.patch(f"{SYNCS}/s", {"spec": spec})
                    assert (answer.code, "delete" in answer.message) == (422, True)
                assert (await kube.patch(f"{SYNCS}/s", {"spec": {"mode": "Enforce"}})).ok
            finally:
                await kube.delete(f"{SYNCS}/s")

    asyncio.run(main())


def test_kubectl_prints_the_columns(plane, connect):
    async def main():
        async with connect() as kube:
            body = policy(SEED, "columns")
            body["metadata"]["annotations"] = {"fleet.tenstorrent.com/plan": "train/3-abc123"}
            assert (await kube.create(POLICIES, body)).ok
            served = (await kube.get(f"{POLICIES}/columns")).body
            served["status"] = {
                "ready": "1/3",
                "summary": {"matched": 3, "upToDate": 1, "inProgress": 1, "failed": 0},
            }
            assert (await kube.replace(f"{POLICIES}/columns/status", served)).ok

    asyncio.run(main())
    kubectl = find_or_build().path("kubectl")
    argv = [kubectl, f"--kubeconfig={plane.kubeconfig}", "get", "ttdp", "columns"]
    try:
        lines = subprocess.run(
            argv, capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()
    finally:
        subprocess.run([*argv[:2], "delete", "ttdp", "columns"], check=True, timeout=60, capture_output=True)
    assert lines[0].split() == [
        "NAME",
        "VERSION",
        "MODE",
        "MATCHED",
        "READY",
        "WAITING",
        "PLAN",
        "UPTODATE",
        "INPROGRESS",
        "FAILED",
        "AGE",
    ]
    assert lines[1].split()[:6] == ["columns", "2.8.0", "3", "1/3", "train/3-abc123", "1"]
