"""What the reconciler sends: it creates only what is not there, and nothing for a FleetSync as it was before a fetch."""

import asyncio
from collections.abc import Callable

import pytest

from reconciler.adapters.kube import Response
from reconciler.adapters.source import DirectorySource
from reconciler.core.actions import Verb
from reconciler.core.fleet.render import Manifest
from reconciler.core.rollout.syncworld import ApplyPolicy
from reconciler.sync.driver import Driver
from reconciler.sync.repository import Repository
from reconciler.sync.server import FleetServer
from schema.policy import PolicySpec


class Served:
    """The policies of a server, by path."""

    def __init__(self, **bodies: dict) -> None:
        self.bodies = bodies
        self.applied: list[str] = []

    async def get(self, path: str) -> Response:
        name = path.rpartition("/")[2]
        return Response(200, self.bodies[name]) if name in self.bodies else Response(404, {})

    async def apply(self, path: str, body: dict, **_options: object) -> Response:
        name = path.rpartition("/")[2]
        self.applied.append(name)
        return Response(200, {**body, "metadata": {**body["metadata"], "uid": "u", "resourceVersion": "8"}})

    async def replace(self, _path: str, body: dict, **_options: object) -> Response:
        return Response(200, body)


def create(served: Served) -> tuple[FleetServer, Verb]:
    manifest = Manifest(name="p-all", labels={}, annotations={}, spec=PolicySpec(version="2.8.0"))
    action = ApplyPolicy(manifest=manifest, resource_version=None, why="new")

    async def run() -> tuple[FleetServer, Verb]:
        server = FleetServer(kube=served)
        return server, (await server.act(action)).verb

    return asyncio.run(run())


def test_what_is_not_there_is_created():
    served = Served()
    server, verb = create(served)
    assert (verb, served.applied) == (Verb.DONE, ["p-all"])
    assert [policy.name for policy in server.policies.store] == ["p-all"]


def test_a_policy_that_somebody_made_in_the_meantime_is_a_conflict_and_is_seen_next_time():
    theirs = {"metadata": {"name": "p-all", "uid": "x", "resourceVersion": "7"}, "spec": {"version": "2.7.0"}}
    served = Served(**{"p-all": theirs})
    server, verb = create(served)
    assert (verb, served.applied) == (Verb.CONFLICT, [])
    assert [policy.uid for policy in server.policies.store] == ["x"]


def fleet_sync(**spec: object) -> dict:
    metadata = {
        "name": "fleet",
        "uid": "u",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, "spec": {"mode": "Enforce", **spec}}


class Slow(DirectorySource):
    """A source during whose fetch the FleetSync changes."""

    meanwhile: Callable[[], None]

    def revision(self) -> str:
        self.meanwhile()
        return super().revision()


@pytest.mark.parametrize("change", ["cluster", "deleted", "nothing"])
def test_what_was_fetched_for_a_fleet_sync_as_it_was_is_not_decided_on(change, tmp_path):
    server = FleetServer(kube=Served())
    server.syncs.store.replace([fleet_sync(url="https://example.org/fleet")], 7)
    (view,) = server.sync_views()

    def meanwhile():
        left = {"deleted": [], "cluster": [fleet_sync(url="https://example.org/fleet", cluster="other")]}
        if change in left:
            server.syncs.store.begin_list()
            server.syncs.store.replace(left[change], 8)

    source = Slow(tmp_path)
    source.meanwhile = meanwhile
    driver = Driver(server=server, cache=tmp_path, _spec=view.spec, _repository=Repository(source=source))
    asyncio.run(driver._turn())
    assert server.chosen == ("fleet" if change == "nothing" else "")
