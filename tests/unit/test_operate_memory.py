"""What an operator remembers: its term, its reservations, the fence (rows 1 to 4)."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Outcome, RenewLease, ScanNodes, Step, TakeLease, Verb, WriteNode
from reconciler.core.node.memory import absorb
from reconciler.core.world import Reservation, Term
from schema.target import Mode, Target
from schema.transaction import Phase, Record

NOW = 1000.0
TARGET = Target(mode=Mode.CONTAINER, version="2.8.0", commit="8" * 40)
RECORD = Record(
    id="0001aaaaaaaaaaaa",
    cr="cr",
    plan="",
    from_=None,
    to=TARGET,
    phase=Phase.RESERVED,
    since="",
    reserved="",
)
LEADER = Term(identity="me", lease_version="5", clean=True)
HOLDING = replace(LEADER, reservations={"n0": Reservation(id=RECORD.id, resource_version="7")})
DONE = Outcome(verb=Verb.DONE, code=200, resource_version="9")
BAD = [Outcome(verb=verb) for verb in (Verb.CONFLICT, Verb.REFUSED, Verb.UNKNOWN, Verb.GONE)]


def write(step, record=RECORD):
    return WriteNode(node="n0", resource_version="6", step=step, cr="cr", record=record)


def test_taking_the_lease_begins_an_empty_term():
    term = absorb(HOLDING, TakeLease(resource_version="5", holder="me"), DONE, NOW)
    assert (term.lease_version, term.clean, term.reservations) == ("9", False, {})


@pytest.mark.parametrize("outcome", BAD)
def test_a_take_that_fails_or_is_not_answered_leads_nothing(outcome):
    term = absorb(Term(identity="me"), TakeLease(resource_version="5", holder="me"), outcome, NOW)
    assert not term.leads


def test_a_renewal_fences_what_it_covers_and_nothing_else():
    two = replace(
        HOLDING, reservations={**HOLDING.reservations, "n1": Reservation(id="x", resource_version="8")}
    )
    term = absorb(two, RenewLease(resource_version="5", holder="me", covers=("n0",)), DONE, NOW)
    assert {name: own.fenced for name, own in term.reservations.items()} == {"n0": True, "n1": False}
    assert term.lease_version == "9"


@pytest.mark.parametrize("outcome", BAD)
def test_a_renewal_that_fails_or_is_not_answered_deposes(outcome):
    term = absorb(HOLDING, RenewLease(resource_version="5", holder="me", covers=("n0",)), outcome, NOW)
    assert (term.leads, term.reservations) == (False, {})


def test_only_a_list_without_foreign_reservations_makes_clean():
    dirty = replace(LEADER, clean=False)
    seen = Outcome(verb=Verb.DONE, foreign_reserved=("n3",))
    assert not absorb(dirty, ScanNodes(), seen, NOW).clean
    assert not absorb(dirty, ScanNodes(), Outcome(verb=Verb.UNKNOWN), NOW).clean
    assert absorb(dirty, ScanNodes(), DONE, NOW).clean


def test_a_reservation_counts_only_when_it_landed_in_a_term():
    own = absorb(LEADER, write(Step.RESERVE), DONE, NOW).reservations
    assert own == {"n0": Reservation(id=RECORD.id, resource_version="9")}
    assert absorb(Term(identity="me"), write(Step.RESERVE), DONE, NOW).reservations == {}
    for outcome in BAD:
        assert absorb(LEADER, write(Step.RESERVE), outcome, NOW).reservations == {}


@pytest.mark.parametrize("outcome", [DONE, *BAD])
def test_a_cordon_or_a_release_spends_the_reservation_whatever_comes_of_it(outcome):
    assert absorb(HOLDING, write(Step.CORDON), outcome, NOW).reservations == {}
    assert absorb(HOLDING, write(Step.RELEASE, None), outcome, NOW).reservations == {}
