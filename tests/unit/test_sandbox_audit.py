"""Replay of a synthetic audit log: the order of lines lies, the resourceVersion does not."""

import json

import pytest

from reconciler.sandbox.audit import cordons, most_unavailable, node_writes, writes_to_nodes

START = "2026-11-24T10:00:00Z"


def event(
    node,
    version,
    second,
    *,
    cordoned=False,
    ready=True,
    verb="patch",
    code=200,
    query="",
    user="operator",
    subresource="",
    **extra,
):
    reference = {"resource": "nodes", "name": node} | ({"subresource": subresource} if subresource else {})
    response = {
        "metadata": {"name": node, "resourceVersion": str(version)},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }
    return {
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/nodes/{node}?{query}",
        "verb": verb,
        "user": {"username": user},
        "objectRef": reference,
        "responseStatus": {"code": code},
        "responseObject": response,
        "stageTimestamp": f"2026-11-24T10:00:{second:02}.000000Z",
    } | extra


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit.log"

    def write(*events, end="\n"):
        lines = [json.dumps(e, separators=(",", ":")) for e in events]
        path.write_text("\n".join(lines) + end)
        return path

    return write


def joined(*nodes):
    return [event(node, index, 0) for index, node in enumerate(nodes, 1)]


def test_lines_out_of_order_are_replayed_in_commit_order(log):
    # by line: a is cordoned, b is cordoned, a is released = 2 at once; by commit: one after the other
    path = log(
        *joined("a", "b"),
        event("a", 10, 1, cordoned=True),
        event("b", 12, 2, cordoned=True),
        event("a", 11, 2),
        event("b", 13, 3),
    )
    assert most_unavailable(path) == 1
    assert [w.version for w in node_writes(path)] == [1, 2, 10, 11, 12, 13]


def test_two_at_once_are_found_though_the_lines_hide_it(log):
    path = log(
        *joined("a", "b"),
        event("a", 10, 1, cordoned=True),
        event("a", 12, 3),
        event("b", 11, 2, cordoned=True),
        event("b", 13, 4),
    )
    assert most_unavailable(path) == 2


@pytest.mark.parametrize(
    "ghost",
    [
        event("b", 11, 2, cordoned=True, query="dryRun=All"),
        event("b", 11, 2, cordoned=True, code=409),
        event("b", 11, 2, cordoned=True, verb="get"),
        event("b", 10, 2, cordoned=True),  # repeats a resourceVersion: nothing was written
        event("b", 11, 2, cordoned=True) | {"stage": "RequestReceived"},
        event("b", 11, 2, cordoned=True) | {"objectRef": {"resource": "pods", "name": "b"}},
    ],
    ids=["dry run", "conflict", "read", "repeat", "not answered", "a pod"],
)
def test_what_did_not_happen_does_not_count(log, ghost):
    assert most_unavailable(log(*joined("a", "b"), event("a", 10, 1, cordoned=True), ghost)) == 1


def test_not_ready_counts_after_a_node_was_ready_and_a_deleted_node_does_not(log):
    gone = event("b", 0, 5, verb="delete", responseObject={"kind": "Status", "status": "Success"})
    path = log(
        event("new", 1, 0, ready=False),
        *[event(n, i, 0) for i, n in enumerate(("a", "b"), 2)],
        event("b", 10, 3, ready=False, subresource="status"),
        event("a", 11, 4, cordoned=True),
        gone,
        event("a", 20, 6),
        event("c", 21, 7, cordoned=True),
    )
    assert most_unavailable(path) == 2
    assert most_unavailable(path, since=node_writes(path)[-1].at) == 1


def test_a_node_that_was_unavailable_before_counts_from_the_start(log):
    path = log(*joined("a", "b"), event("a", 10, 1, cordoned=True), event("b", 11, 30))
    assert most_unavailable(path, since=node_writes(path)[-1].at) == 1


def test_cordons_say_who_and_how_long(log):
    path = log(
        *joined("a"),
        event("a", 10, 5, cordoned=True, query="fieldManager=ttfleet-operator"),
        event("a", 11, 6, cordoned=True, user="kubelet", subresource="status"),
        event("a", 12, 9, user="admin", impersonatedUser={"username": "alice"}),
        event("a", 13, 20, cordoned=True, user="bob"),
    )
    first, second = cordons(path)["a"]
    assert (first.by, first.ended_by, first.end - first.begin) == ("operator", "admin as alice", 4.0)
    assert (second.by, second.end) == ("bob", None)
    assert [(w.version, w.manager) for w in writes_to_nodes(path)][1] == (10, "ttfleet-operator")


def test_writes_since_leave_heartbeats_out(log):
    path = log(*joined("a"), event("a", 10, 5, subresource="status"), event("a", 11, 6, user="alice"))
    assert [w.user for w in writes_to_nodes(path, since=node_writes(path)[1].at)] == ["alice"]


def test_a_line_cut_off_at_the_end_is_forgiven_one_in_the_middle_is_not(log):
    whole = joined("a", "b")
    path = log(*whole, end="\n" + json.dumps(event("c", 9, 9), separators=(",", ":"))[:-40])
    assert len(node_writes(path)) == 2
    path.write_text('{"objectRef":{"resource":"nodes"\n' + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"audit\.log:1"):
        node_writes(path)


def test_a_log_without_answers_is_no_evidence(log):
    mute = event("a", 1, 0)
    del mute["responseObject"]
    with pytest.raises(ValueError, match="audit policy"):
        node_writes(log(mute))
