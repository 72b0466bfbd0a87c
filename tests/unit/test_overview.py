"""`ttfleet status` as text and data."""

from dataclasses import replace

from reconciler.core.world import CordonOwner, NodeView, PolicyView
from reconciler.report.overview import Overview, overview_text
from schema.policy import Budget, PolicySpec
from schema.target import Mode, Target
from schema.transaction import Attempt, History, Result

SYNC = {
    "metadata": {"name": "fleet"},
    "spec": {"url": "https://example.org/fleet.git", "cluster": "prod", "mode": "Enforce"},
    "status": {
        "lastAppliedRevision": "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334",
        "plan": "train/2-1e9a0000",
        "conditions": [{"type": "Ready", "status": "False", "reason": "Progressing", "message": "early 1/3"}],
        "waves": [
            {"pool": "train", "name": "canary", "state": "Done", "nodes": 1, "done": 1, "failed": 0},
            {
                "pool": "train",
                "name": "early",
                "state": "Open",
                "nodes": 3,
                "done": 1,
                "message": "n2 Draining",
            },
            {"pool": "train", "name": "rest", "state": "Closed", "nodes": 8, "done": 0},
        ],
    },
}


def policy(wave: str, states: dict[str, str], **more) -> PolicyView:
    nodes = [
        {"name": name, "state": state, "reason": "X" * (state == "Blocked")} for name, state in states.items()
    ]
    return PolicyView(
        name=f"train-{wave}",
        uid="u",
        resource_version="1",
        generation=1,
        labels={"fleet.tenstorrent.com/pool": "train", "fleet.tenstorrent.com/wave": wave},
        annotations={},
        spec=PolicySpec(version="2.8.0", budgets=(Budget(group="cluster", max_unavailable=3),), **more),
        status={"nodes": nodes},
    )


def node(name: str, *, cordon=CordonOwner.NOBODY, ready=True, outage_s=None) -> NodeView:
    to = Target(mode=Mode.CONTAINER, version="2.8.0")
    entry = Attempt(
        at="2026-01-01T00:00:00Z", plan="", from_=None, to=to, result=Result.OK, outage_s=outage_s
    )
    return NodeView(
        name=name,
        uid=name,
        resource_version="1",
        labels={},
        annotations={},
        cordon=cordon,
        ready=ready,
        ready_since=0.0,
        boot_id="b",
        history=History(latest=entry) if outage_s else History(),
    )


OVERVIEW = Overview(
    sync=SYNC,
    policies=(
        policy("canary", {"n1": "Done"}),
        policy("early", {"n2": "Draining", "n3": "Blocked", "n4": "Done"}),
        policy("rest", {"n5": "Waiting"}, waiting=True),
    ),
    nodes=(
        node("n1", outage_s=2.5),
        node("n2", cordon=CordonOwner.OURS),
        node("n3", ready=False),
        node("n4", outage_s=3.5),
        node("n5"),
        node("cpu-1", ready=False),
    ),
)


def test_the_text_says_plan_waves_work_budget_and_what_is_blocked():
    assert overview_text(OVERVIEW) == (
        "prod  main@a1b2c3d4e5f6  Enforce  plan train/2-1e9a0000\n"
        "Progressing: early 1/3\n"
        "POOL   WAVE    DONE  NOW          STATE\n"
        "train  canary  1/1   –            done\n"
        "train  early   1/3   n2 Draining  open, waits for n2 Draining\n"
        "train  rest    0/8   –            closed\n"
        "unavailable 2 of 5, budget 3 (0 ours)\n"
        "BLOCKED n3  X\n"
        "outage  median 3.0 s, max 3.5 s\n"
    )


def test_without_a_fleet_sync_the_policies_themselves_are_shown():
    text = overview_text(replace(OVERVIEW, sync=None))
    assert text.startswith("no FleetSync in this cluster\nPOOL")
    assert "train-rest    –     0/1   –            closed\n" in text


def test_an_empty_cluster_is_one_line():
    assert overview_text(Overview(sync=None, policies=(), nodes=())) == "no FleetSync in this cluster\n"


def test_the_data_holds_what_the_text_shows():
    data = OVERVIEW.to_json()
    assert data["unavailable"] == {"nodes": 5, "unavailable": 2, "ours": 0, "budget": 3}
    assert data["notDone"] == [{"name": "n3", "state": "Blocked", "reason": "X"}]
    assert data["waves"][1]["now"] == ["n2 Draining"]
