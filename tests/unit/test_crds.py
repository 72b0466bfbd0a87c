"""The served schemas and the code say the same: every field is described, read into a value, and used."""

import ast
import copy
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.core.actions import NodeReport
from reconciler.core.node.scene import Scene
from reconciler.core.node.status import status_of
from reconciler.core.world import CordonOwner, LeaseView, NodeView, PolicyView, Settings, Term, World
from schema import names
from schema.policy import Budget, Drain, PolicySpec, Requirement, Selector, Source
from schema.states import NodeState, Reason
from schema.sync import SyncMode, SyncSpec, WaveState
from schema.target import Mode, Vacate

ROOT = Path(__file__).parents[2]


def definition(name):
    return YAML(typ="safe").load((ROOT / "schema" / "crds" / f"{name}.yaml").read_text(encoding="utf-8"))


def schema(name, part):
    version = definition(name)["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"][part]


def fields(node, path=()):
    """(path, schema) of every property below a schema; list items are `[]`."""
    for key, value in node.get("properties", {}).items():
        yield (*path, key), value
        yield from fields(value, (*path, key))
    if "items" in node:
        yield from fields(node["items"], (*path, "[]"))


def closed(node):
    """The same schema as plain JSON Schema that refuses unknown keys, as server-side apply does."""
    node = {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}
    if "properties" in node:
        node["properties"] = {key: closed(value) for key, value in node["properties"].items()}
        node.setdefault("additionalProperties", False)
    if "items" in node:
        node["items"] = closed(node["items"])
    return node


CRDS = ("ttdp", "fleetsync")
ALL = [
    (crd, part, path, node)
    for crd in CRDS
    for part in ("spec", "status")
    for path, node in fields(schema(crd, part))
]


@pytest.mark.parametrize(
    ("crd", "part", "path", "node"),
    ALL,
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_every_field_is_described(crd, part, path, node):
    assert len(node.get("description", "")) > 5


@pytest.mark.parametrize(
    ("crd", "part", "path", "node"),
    ALL,
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_every_list_and_string_has_a_bound(crd, part, path, node):
    """Otherwise the estimated cost of a CEL rule exceeds the API server's budget."""
    if node["type"] == "array":
        assert "maxItems" in node
    if node["type"] == "string":
        assert "maxLength" in node or "enum" in node or "format" in node


def test_names_are_those_of_the_code():
    for crd, group, kind, plural, short in (
        ("ttdp", names.DRIVER_GROUP, names.POLICY_KIND, names.POLICY_PLURAL, "ttdp"),
        ("fleetsync", names.FLEET_GROUP, names.SYNC_KIND, names.SYNC_PLURAL, "fsync"),
    ):
        spec = definition(crd)["spec"]
        assert definition(crd)["metadata"]["name"] == f"{plural}.{group}"
        assert (spec["group"], spec["scope"]) == (group, "Cluster")
        assert (spec["names"]["kind"], spec["names"]["plural"], spec["names"]["shortNames"]) == (
            kind,
            plural,
            [short],
        )
        assert [version["name"] for version in spec["versions"]] == [names.V1ALPHA1]
        assert "status" in spec["versions"][0]["subresources"]


def test_printer_columns_are_upstreams_and_ours():
    columns = [
        column["name"] for column in definition("ttdp")["spec"]["versions"][0]["additionalPrinterColumns"]
    ]
    assert columns == [
        "Version",
        "Mode",
        "Matched",
        "Ready",
        "Waiting",
        "Plan",
        "UpToDate",
        "InProgress",
        "Failed",
        "Age",
    ]


def test_enums_are_those_of_the_code():
    spec, status = schema("ttdp", "spec")["properties"], schema("ttdp", "status")["properties"]
    assert spec["mode"]["enum"] == [str(mode) for mode in Mode]
    assert spec["vacate"]["enum"] == [str(vacate) for vacate in Vacate]
    assert status["nodes"]["items"]["properties"]["state"]["enum"] == [str(state) for state in NodeState]


SAMPLES = {
    ("version",): "2.8.0",
    ("mode",): "host",
    ("vacate",): "Once",
    ("nodeAffinity",): {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
    },
    ("nodeSelector",): {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
    },
    ("source",): {"repository": "https://example.com/x.git", "commit": "a" * 40},
    ("budgets",): [{"group": "g", "maxUnavailable": 3}],
    ("upgradePolicy", "drain", "podSelectorLabel"): "a=b",
    ("upgradePolicy", "drain", "timeoutSeconds"): 7,
    ("upgradePolicy", "drain", "enable"): False,
    ("upgradePolicy", "drain", "fullNode"): False,
    ("upgradePolicy", "drain", "deleteEmptyDir"): False,
    ("installer", "image"): "builder:2",
    ("installer", "imagePullPolicy"): "Always",
}
COMPOUND = {"upgradePolicy", "installer", "drain"}


def nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, _ in fields(schema("ttdp", "spec"))
        if "[]" not in path
        and path[-1] not in COMPOUND
        and path[0] not in {"source", "nodeAffinity", "nodeSelector"}
    ]
    + [("source",), ("nodeAffinity",), ("nodeSelector",)],
    ids=".".join,
)
def test_every_field_of_the_spec_is_read_and_written_back(path):
    raw = nested(path, SAMPLES.get(path, True))
    read = PolicySpec.from_json(raw)
    assert read != PolicySpec.from_json({}), "the field is served but nobody reads it"
    assert PolicySpec.from_json(read.to_json()) == read
    jsonschema.validate(raw, closed(schema("ttdp", "spec")))


text = st.text("abcdefghijklmnop-", min_size=1, max_size=12)
requirements = st.one_of(
    st.builds(
        Requirement,
        key=text,
        operator=st.sampled_from(["In", "NotIn"]),
        values=st.lists(text, min_size=1, max_size=3).map(tuple),
    ),
    st.builds(Requirement, key=text, operator=st.sampled_from(["Exists", "DoesNotExist"])),
)
selectors = st.builds(
    Selector,
    match_labels=st.dictionaries(text, text, max_size=3).map(lambda labels: tuple(sorted(labels.items()))),
    match_expressions=st.lists(requirements, max_size=3).map(tuple),
)
drains = st.builds(
    Drain,
    enable=st.booleans(),
    full_node=st.booleans(),
    pod_selector_label=st.sampled_from(["", "a=b"]),
    force=st.booleans(),
    delete_empty_dir=st.booleans(),
    timeout_s=st.integers(1, 2592000),
)
specs = st.builds(
    PolicySpec,
    version=st.sampled_from(["2.7.0", "2.8.0", "10.20.30"]),
    node_affinity=selectors,
    paused=st.booleans(),
    unmanage=st.booleans(),
    force_unload=st.booleans(),
    drain=drains,
    image=st.sampled_from(["", "builder:1"]),
    image_pull_policy=st.sampled_from(["", "Always", "IfNotPresent", "Never"]),
    mode=st.sampled_from([None, *Mode]),
    waiting=st.booleans(),
    vacate=st.sampled_from(Vacate),
    source=st.none()
    | st.builds(Source, repository=text, commit=st.text("0123456789abcdef", min_size=40, max_size=40)),
    budgets=st.lists(st.builds(Budget, group=text, max_unavailable=st.integers(1, 100)), max_size=3).map(
        tuple
    ),
)


@given(specs)
def test_a_spec_survives_the_way_to_the_server_and_back(spec):
    raw = spec.to_json()
    jsonschema.validate(raw, closed(schema("ttdp", "spec")))
    assert PolicySpec.from_json(copy.deepcopy(raw)) == spec


def test_every_value_of_a_spec_is_used_by_code():
    used = attributes(ROOT / "reconciler") | attributes(ROOT / "schema" / "policy.py")
    for value in (PolicySpec, Drain, Budget, Source, Selector, Requirement):
        for field in value.__dataclass_fields__:
            assert field in used, f"{value.__name__}.{field} is served but nothing looks at it"


def attributes(place):
    files = [place] if place.is_file() else place.rglob("*.py")
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def sample_status():
    policy = PolicyView(
        name="p",
        uid="u",
        resource_version="1",
        generation=3,
        labels={},
        annotations={},
        spec=PolicySpec(version="2.8.0"),
        status={},
    )
    node = NodeView(
        name="n1",
        uid="n",
        resource_version="1",
        labels={},
        annotations={},
        cordon=CordonOwner.NOBODY,
        ready=True,
        ready_since=0.0,
        boot_id="b",
    )
    world = World(
        policies={"p": policy},
        nodes={"n1": node},
        pods={},
        lease=LeaseView(resource_version=None, holder="", unchanged_for_s=0),
        term=Term(identity="x"),
        settings=Settings(namespace="n", image="i"),
    )
    report = NodeReport(
        node="n1", cr="p", state=NodeState.BLOCKED, reason=Reason.BUDGET, message="m", current_version="2.7.0"
    )
    return status_of(Scene(world=world, now=1_700_000_000.0), policy, [report])


def keys(value, path=()):
    if isinstance(value, list | tuple):
        for entry in value:
            yield from keys(entry, (*path, "[]"))
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield (*path, key)
            yield from keys(entry, (*path, key))


def test_the_status_that_is_written_is_the_status_that_is_served():
    """A key more would be pruned by the server and written again for ever; a key less is a field nobody fills."""
    status = sample_status()
    jsonschema.validate(status, closed(schema("ttdp", "status")))
    assert set(keys(status)) == {path for path, _ in fields(schema("ttdp", "status"))}


SYNC_SAMPLES = {
    "url": "https://example.com/fleet.git",
    "path": "/fleet",
    "ref": "release",
    "cluster": "prod",
    "interval": "17s",
    "secretRef": {"name": "s"},
    "suspend": True,
    "mode": "Enforce",
    "prune": False,
}


@pytest.mark.parametrize(
    "name", [path[0] for path, _ in fields(schema("fleetsync", "spec")) if len(path) == 1]
)
def test_every_field_of_a_fleet_sync_is_read(name):
    assert SyncSpec.from_json({name: SYNC_SAMPLES[name]}) != SyncSpec.from_json({})


def test_every_value_of_a_fleet_sync_is_used_by_code():
    used = attributes(ROOT / "reconciler")
    assert not [name for name in SyncSpec.__dataclass_fields__ if name not in used]


def test_every_field_of_a_fleet_syncs_status_is_written():
    tree = ast.parse((ROOT / "reconciler" / "core" / "rollout" / "syncstatus.py").read_text(encoding="utf-8"))
    written = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    served = {path[-1] for path, _ in fields(schema("fleetsync", "status")) if path[-1] != "[]"}
    assert served <= written | {
        "type",
        "status",
        "reason",
        "message",
        "observedGeneration",
        "lastTransitionTime",
    }


def test_enums_of_a_fleet_sync_are_those_of_the_code():
    assert schema("fleetsync", "spec")["properties"]["mode"]["enum"] == [str(mode) for mode in SyncMode]
    states = schema("fleetsync", "status")["properties"]["waves"]["items"]["properties"]["state"]["enum"]
    assert states == [str(state) for state in WaveState]
