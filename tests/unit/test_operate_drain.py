"""Drain and preflight: who may be evicted, what is asked, and what no waiting mends."""

import pytest

from reconciler.core.actions import EvictPod, Outcome, Verb
from reconciler.core.node.drain import passes, preflight, progress, undrainable
from reconciler.core.node.memory import absorb
from reconciler.core.world import Answer, PodRole, PodView, Term
from schema.policy import Drain
from schema.states import Reason

CORDONED_AT, NOW = 1000.0, 1060.0


def pod(name="p", **fields):
    defaults = {
        "namespace": "work",
        "name": name,
        "uid": f"uid-{name}",
        "node": "n0",
        "role": PodRole.WORKLOAD,
        "labels": {},
        "owner": "ReplicaSet/r",
        "phase": "Running",
        "ready": True,
        "terminating": False,
        "uses_device": True,
        "daemonset": False,
        "mirror": False,
        "empty_dir": False,
        "started_at": 500.0,
    }
    return PodView(**{**defaults, **fields})


def answer(**fields):
    return Answer(
        **{"at": NOW - 1, "node": "n0", "owner": "ReplicaSet/r", "dry_run": False, "allowed": True, **fields}
    )


def look(*pods, answers=None, drain=None):
    return progress("cr", pods, drain or Drain(), answers or {}, cordoned_at=CORDONED_AT, now=NOW)


def names(actions):
    return [action.name for action in actions]


@pytest.mark.parametrize(
    "never",
    [
        {"daemonset": True},
        {"mirror": True},
        {"phase": "Succeeded"},
        {"owner": ""},
        {"role": PodRole.SWAP},
        {"role": PodRole.KEEP},
    ],
)
def test_never_evicted(never):
    assert passes([pod(**never)], Drain()) == ([], [])


def test_force_evicts_bare_pods_and_empty_dirs_are_kept_on_demand():
    assert passes([pod(owner="")], Drain(force=True))[0]
    assert not passes([pod(empty_dir=True)], Drain(delete_empty_dir=False))[0]


def test_pass_one_goes_before_pass_two():
    holder, other = pod("holder"), pod("other", uses_device=False)
    assert names(look(holder, other).evictions) == ["holder"]
    assert names(look(other).evictions) == ["other"]
    assert not look(other).drained
    assert look(other, drain=Drain(full_node=False)).drained


def test_pass_two_is_narrowed_by_a_label():
    match, rest = pod("a", uses_device=False, labels={"team": "x"}), pod("b", uses_device=False)
    assert names(look(match, rest, drain=Drain(pod_selector_label="team=x")).evictions) == ["a"]
    assert names(look(match, rest, drain=Drain(pod_selector_label="team")).evictions) == ["a"]


def test_drained_only_when_the_last_holder_has_gone():
    assert not look(pod(terminating=True)).drained
    assert look(pod(terminating=True)).evictions == ()
    assert not look(pod(daemonset=True, gated=True)).drained
    assert look(pod(phase="Failed")).drained
    assert look().drained


def test_without_drain_nobody_is_evicted_and_holders_are_waited_for():
    seen = look(pod(owner=""), drain=Drain(enable=False))
    assert (seen.drained, seen.evictions, seen.trouble) == (False, (), None)


@pytest.mark.parametrize("fields", [{"daemonset": True}, {"mirror": True}, {"owner": ""}])
def test_undrainable_holders(fields):
    trouble = undrainable([pod(**fields)], Drain())
    assert trouble is not None
    assert trouble.reason is Reason.UNDRAINABLE_HOLDER
    assert undrainable([pod(**fields, uses_device=False)], Drain()) is None


def test_a_refused_eviction_is_asked_again_after_a_while():
    refused = answer(allowed=False, cause="DisruptionBudget", message="none allowed")
    seen = look(pod(), answers={"uid-p": refused})
    assert seen.evictions == ()
    assert seen.waiting.reason is Reason.PDB_BLOCKED
    old = answer(allowed=False, cause="DisruptionBudget", at=NOW - 6)
    assert names(look(pod(), answers={"uid-p": old}).evictions) == ["p"]


def test_two_budgets_on_one_pod_never_mend():
    broken = answer(allowed=False, cause="Misconfigured", message="more than one PodDisruptionBudget")
    assert look(pod(), answers={"uid-p": broken}).trouble.reason is Reason.PDB_MISCONFIGURED


def test_the_second_pod_that_lands_after_the_cordon_is_reported():
    late = pod("new", started_at=NOW - 5)
    assert names(look(late).evictions) == ["new"]
    assert look(late).evictions[0].late
    before = {"uid-old": answer(late=True)}
    assert look(late, answers=before).trouble.reason is Reason.POD_RELANDED
    assert look(late, answers={"uid-old": answer(late=True, node="n1")}).trouble is None


def test_preflight_asks_refuses_and_passes():
    first = preflight("cr", [pod(), pod("q", uses_device=False)], Drain(), {}, NOW)
    assert names(first.evictions) == ["p", "q"]
    assert all(ask.dry_run for ask in first.evictions)
    good = {uid: answer(dry_run=True) for uid in ("uid-p", "uid-q")}
    assert preflight("cr", [pod(), pod("q", uses_device=False)], Drain(), good, NOW).drained
    bad = good | {"uid-q": answer(dry_run=True, allowed=False, cause="DisruptionBudget", refusals=1)}
    seen = preflight("cr", [pod(), pod("q", uses_device=False)], Drain(), bad, NOW)
    assert seen.trouble.reason is Reason.PDB_BLOCKED
    assert not seen.drained


def test_a_refused_preflight_is_asked_less_and_less_often():
    term = Term(identity="me")
    ask = EvictPod(namespace="work", name="p", uid="uid-p", node="n0", cr="cr", drain_pass=1, dry_run=True)
    waits = []
    at = NOW
    for _ in range(7):
        term = absorb(term, ask, Outcome(verb=Verb.REFUSED, code=429, cause="DisruptionBudget"), at)
        wait = 0.0
        while preflight("cr", [pod()], Drain(), term.answers, at + wait).trouble:
            wait += 5
        waits.append(wait)
        at += wait
    assert waits == [15, 30, 60, 120, 240, 240, 240]
