"""The schemas of schema/fleet/: closed, described, documented, and without a field that no code reads."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from reconciler.adapters.jsonschemas import KINDS
from reconciler.adapters.source import File, blob_id
from reconciler.adapters.tree import load_tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import resolve
from reconciler.core.fleet.validate import check

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "schema/fleet").glob("*.json")}  # fmt: skip


def follow(node):
    """A subschema with what it refers to; what stands beside the reference wins."""
    if "$ref" in node:
        name = node["$ref"].removeprefix("fields.schema.json#/$defs/")
        return {**follow(SCHEMAS["fields"]["$defs"][name]), **node}
    return node


def fields(node, path=()):
    """Every field below a schema with its subschema; list items add nothing to the path, free keys a `*`."""
    node = follow(node)
    for name, child in node.get("properties", {}).items():
        yield (*path, name), follow(child)
        yield from fields(child, (*path, name))
    if isinstance(node.get("additionalProperties"), dict):
        yield from fields(node["additionalProperties"], (*path, "*"))
    if "items" in node:
        yield from fields(node["items"], path)


def of_kind(kind):
    return dict(fields(SCHEMAS[kind.lower()]))


def objects(node):
    node = follow(node)
    if node.get("type") == "object":
        yield node
    for child in (*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])):
        yield from objects(child)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one(name):
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert name == "fields" or SCHEMAS[name]["title"] in KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_every_object_closed(kind):
    for path, schema in of_kind(kind).items():
        assert re.fullmatch(r"[A-Z`].*\.", schema["description"]), (path, schema["description"])
    for schema in objects(SCHEMAS[kind.lower()]):
        assert "additionalProperties" in schema, schema["description"]


def test_patterns_are_anchored_and_have_no_alternative_at_the_top():
    """`pattern` is matched as a whole here; an editor that searches must come to the same."""
    text = "\n".join(json.dumps(schema) for schema in SCHEMAS.values())
    patterns = [json.loads(f'"{found}"') for found in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', text)]
    assert len(patterns) > 8
    for pattern in patterns:
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern
        assert "|" not in re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", pattern)), pattern


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_documented(kind):
    text = (ROOT / "docs/fleet-repository.md").read_text(encoding="utf-8")
    section = re.split(r"(?m)^## ", text.split(f"## {kind}\n")[1])[0]
    shared = text.split("## Shared fields\n")[1]
    for path in of_kind(kind):
        if path[0] == "spec" and len(path) > 1:
            assert f"`{path[-1]}`" in section or (f"`{path[1]}`" in section and f"`{path[-1]}`" in shared), (
                path
            )


# --- every field is read: changing it changes what is resolved, or what is complained about ------------

API = {"apiVersion": "fleet.tenstorrent.com/v1alpha1"}
CARD = {"feature.node.kubernetes.io/pci-1200_1e52.present": "true"}
DRAIN = {"enable": True, "fullNode": True, "podSelectorLabel": "a=b", "force": False, "deleteEmptyDir": True, "timeoutSeconds": 60}  # fmt: skip
GUARDS = {"maxVacates": 1, "maxDeletes": 1, "maxMoves": 1}
WAVES = [{"name": "canary", "count": 1}, {"name": "early", "percent": 40}, {"name": "rest"}]
COMMITS = {"2.7.0": "7" * 40, "2.8.0": "8" * 40}


def fleet():
    """One document of every kind; every field is set in at least one of `variants`."""
    return {
        "Fleet": {"channels": {"stable": "2.7.0"}, "maxUnavailable": 2, "waves": WAVES, "drain": dict(DRAIN), "guards": dict(GUARDS), "allowDowngrade": False, "unassigned": "ignore"},
        "Cluster": {"uid": "5a1e0000-0000-4000-8000-000000000001", "channel": "stable", "channels": {"other": "2.8.0"}, "maxUnavailable": 3, "waves": WAVES, "drain": dict(DRAIN), "guards": dict(GUARDS), "allowDowngrade": False, "unassigned": "ignore"},
        "NodePool": {"selector": {"matchLabels": {"pool": "a"}, "matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1", "r2"]}]}, "kmd": {"mode": "container", "vacate": "Never", "channel": "stable"}, "maxUnavailable": 4, "waves": WAVES, "drain": dict(DRAIN), "allowDowngrade": False},
        "Node": {"hold": True, "reason": "RMA", "reviewBy": "2030-01-01", "kmd": {"version": "2.8.0", "mode": "container", "vacate": "Never"}},
        "Release": {"repository": "https://a/b", "commit": COMMITS["2.7.0"], "blocked": "no"},
        "Inventory": {"nodes": [{"name": f"n{i}", "labels": {**CARD, "pool": "a", "rack": "r1"}, "installMode": "container", "version": "2.7.0", "commit": "7" * 40, "ready": True} for i in range(5)]},
    }  # fmt: skip


NAMES = {"Fleet": "f", "Cluster": "c", "NodePool": "p", "Node": "n0", "Release": "2.7.0", "Inventory": "c"}
#: (kind, path below spec, other value, fields that must not be set beside it)
CHANGES = [
    ("Fleet", ("channels", "stable"), "2.8.0", ()), ("Fleet", ("maxUnavailable",), 1, (("Cluster", "maxUnavailable"),)),
    ("Fleet", ("waves",), [{"name": "all"}], (("Cluster", "waves"), ("NodePool", "waves"))),
    ("Fleet", ("unassigned",), "error", (("Cluster", "unassigned"),)),
    ("Fleet", ("allowDowngrade",), True, (("Cluster", "allowDowngrade"), ("NodePool", "allowDowngrade"))),
    ("Cluster", ("channel",), "other", (("NodePool", "kmd", "channel"),)), ("Cluster", ("channels", "stable"), "2.8.0", ()),
    ("Cluster", ("maxUnavailable",), 1, ()), ("Cluster", ("waves",), [{"name": "all"}], (("NodePool", "waves"),)),
    ("Cluster", ("unassigned",), "error", ()), ("Cluster", ("allowDowngrade",), True, (("NodePool", "allowDowngrade"),)),
    ("NodePool", ("selector", "matchLabels", "pool"), "b", ()), ("NodePool", ("selector", "matchExpressions", 0, "key"), "pool", ()),
    ("NodePool", ("selector", "matchExpressions", 0, "operator"), "NotIn", ()),
    ("NodePool", ("selector", "matchExpressions", 0, "values"), ["r3"], ()),
    ("NodePool", ("nodes",), ["n1"], (("NodePool", "selector"),)), ("NodePool", ("kmd", "mode"), "host", ()),
    ("NodePool", ("kmd", "vacate"), "Once", ()), ("NodePool", ("kmd", "channel"), "other", ()),
    ("NodePool", ("kmd", "version"), "2.8.0", (("NodePool", "kmd", "channel"),)), ("NodePool", ("maxUnavailable",), 1, ()),
    ("NodePool", ("waves",), [{"name": "all"}], ()), ("NodePool", ("waves", 0, "name"), "first", ()),
    ("NodePool", ("waves", 0, "count"), 2, ()), ("NodePool", ("waves", 1, "percent"), 20, ()), ("NodePool", ("allowDowngrade",), True, ()),
    ("Node", ("hold",), False, ()), ("Node", ("reason",), "other", ()), ("Node", ("reviewBy",), "2020-01-01", ()),
    ("Node", ("kmd", "version"), "2.7.0", ()), ("Node", ("kmd", "channel"), "other", (("Node", "kmd", "version"),)),
    ("Node", ("kmd", "mode"), "host", ()), ("Node", ("kmd", "vacate"), "Always", ()),
    ("Release", ("repository",), "https://a/c", ()), ("Release", ("commit",), "9" * 40, ()), ("Release", ("blocked",), "because", ()),
    ("Inventory", ("nodes", 1, "name"), "m1", ()), ("Inventory", ("nodes", 1, "labels", "pool"), "b", ()),
    ("Inventory", ("nodes", 1, "installMode"), "host", ()), ("Inventory", ("nodes", 1, "version"), "2.8.0", ()),
    ("Inventory", ("nodes", 1, "commit"), "8" * 40, ()), ("Inventory", ("nodes", 1, "ready"), False, ()),
    *[(kind, ("drain", key), {True: False, False: True}.get(value, 61) if not isinstance(value, str) else "c=d", (("NodePool", "drain"), ("Cluster", "drain"))[: {"Fleet": 2, "Cluster": 1, "NodePool": 0}[kind]]) for kind in ("Fleet", "Cluster", "NodePool") for key, value in DRAIN.items()],
    *[(kind, ("guards", key), 7, (("Cluster", "guards"),) if kind == "Fleet" else ()) for kind in ("Fleet", "Cluster") for key in GUARDS],
]  # fmt: skip
#: compared with the uid of kube-system when the reconciler plans its writes
READ_ELSEWHERE = {("Cluster", "uid"): "reconciler/core/rollout/sequence.py"}


class Documents:
    def __init__(self, specs):
        self.specs = specs

    def files(self, revision):
        del revision
        everything = [(kind, NAMES[kind], spec) for kind, spec in self.specs.items()]
        everything.append(("Release", "2.8.0", {"commit": COMMITS["2.8.0"]}))
        for kind, name, spec in everything:
            data = json.dumps({**API, "kind": kind, "metadata": {"name": name}, "spec": spec}).encode()
            yield File(path=f"{kind}-{name}.json", blob=blob_id(data), data=data)


def put(specs, kind, path, value):
    place = specs[kind]
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = value


def drop(specs, kind, *path):
    place = specs[kind]
    for key in path[:-1]:
        place = place[key]
    place.pop(path[-1], None)


def outcome(specs):
    """All that a commit says, without the places it is said at."""
    tree = load_tree(Documents(specs), "r")
    assert not tree.problems, [str(problem) for problem in tree.problems]
    desired = asdict(
        resolve(tree, "", [Machine.of_inventory(entry) for entry in specs["Inventory"]["nodes"]])
    )
    for pool in desired["pools"]:
        pool.pop("mark")
        for node in pool["nodes"]:
            node.pop("why")
    return desired, {(str(problem.code), problem.message) for problem in check(tree, today="2026-11-24")}


@pytest.mark.parametrize(("kind", "path", "value", "without"), CHANGES, ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else str(part)[:20])  # fmt: skip
def test_a_changed_field_changes_what_the_fleet_says(kind, path, value, without):
    specs = json.loads(json.dumps(fleet()))
    specs["Inventory"]["nodes"].append({"name": "stray", "labels": CARD})
    for other, *below in without:
        drop(specs, other, *below)
    if "selector" not in specs["NodePool"]:
        specs["NodePool"]["nodes"] = ["n2"]
    before = outcome(json.loads(json.dumps(specs)))
    put(specs, kind, path, value)
    assert outcome(specs) != before


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_changed_by_a_case_above(kind):
    """So a field that no code reads cannot be in a schema."""
    changed = {
        tuple(part for part in path if not isinstance(part, int))
        for other, path, _, _ in CHANGES
        if other == kind
    }
    for path in of_kind(kind):
        below = path[1:]
        if path[0] != "spec" or not below or (kind, *below) in READ_ELSEWHERE:
            continue
        inherited = below[0] == "waves" and len(below) > 1  # the same table in every layer
        assert inherited or any(change[: len(below)] == below for change in changed), below


def test_fields_that_are_read_elsewhere_are_read_there():
    for (kind, field), place in READ_ELSEWHERE.items():
        text = (ROOT / place).read_text(encoding="utf-8")
        assert f'"{kind}"' in text, (kind, place)
        assert f'"{field}"' in text, (field, place)
