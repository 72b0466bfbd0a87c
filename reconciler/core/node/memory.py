"""Memory: what an operator process remembers after each act. A pure function from term to term.

Only the leadership matters for safety; a process that forgets everything (a crash) loses its reservations to the next
scan, and that is all.
"""

from dataclasses import replace

from reconciler.core.actions import (
    Action,
    EvictPod,
    Outcome,
    RenewLease,
    ScanNodes,
    Step,
    TakeLease,
    Verb,
    WriteNode,
)
from reconciler.core.world import Answer, Reservation, Term
from schema.transaction import Record

ANSWERS_FOR_S = 3600.0


def absorb(term: Term, action: Action, outcome: Outcome, now: float) -> Term:
    """The term after an act that was begun at `now` (POSIX seconds)."""
    match action:
        case TakeLease():
            return _taken(term, outcome, now)
        case RenewLease():
            return _renewed(term, action, outcome, now)
        case ScanNodes():
            clean = outcome.verb is Verb.DONE and not outcome.foreign_reserved
            return replace(term, clean=term.clean or (term.leads and clean))
        case WriteNode():
            return _written(term, action, outcome)
        case EvictPod():
            return _answered(term, action, outcome, now)
        case _:
            return term


def _taken(term: Term, outcome: Outcome, now: float) -> Term:
    """Row 1: a new term begins with nothing of the old one."""
    fresh = Term(identity=term.identity, answers=term.answers)
    if outcome.verb is not Verb.DONE:
        return fresh
    return replace(fresh, lease_version=outcome.resource_version, renewed_at=now)


def _renewed(term: Term, action: RenewLease, outcome: Outcome, now: float) -> Term:
    """Row 3: fences what it covers. Any failure, also an unknown one, deposes."""
    if not term.leads:
        return term
    if outcome.verb is not Verb.DONE:
        return Term(identity=term.identity, answers=term.answers)
    fenced = {
        name: replace(own, fenced=own.fenced or name in action.covers)
        for name, own in term.reservations.items()
    }
    return replace(term, lease_version=outcome.resource_version, renewed_at=now, reservations=fenced)


def _written(term: Term, action: WriteNode, outcome: Outcome) -> Term:
    """Row 2 that landed is ours until row 4 or 9 was tried; whatever that brought, the reservation is spent."""
    others = {name: own for name, own in term.reservations.items() if name != action.node}
    if action.step is not Step.RESERVE:
        return replace(term, reservations=others) if len(others) < len(term.reservations) else term
    if not term.leads or outcome.verb is not Verb.DONE or not isinstance(action.record, Record):
        return term
    own = Reservation(id=action.record.id, resource_version=outcome.resource_version)
    return replace(term, reservations={**others, action.node: own})


def _answered(term: Term, action: EvictPod, outcome: Outcome, now: float) -> Term:
    kept = {uid: answer for uid, answer in term.answers.items() if now - answer.at < ANSWERS_FOR_S}
    if outcome.verb is Verb.UNKNOWN:
        return replace(term, answers=kept)
    before = term.answers.get(action.uid)
    allowed = outcome.verb in {Verb.DONE, Verb.GONE}
    kept[action.uid] = Answer(
        at=now,
        node=action.node,
        owner=action.owner,
        dry_run=action.dry_run,
        allowed=allowed,
        cause=outcome.cause,
        message=outcome.message,
        late=action.late,
        refusals=0 if allowed else (before.refusals if before else 0) + 1,
    )
    return replace(term, answers=kept)
