"""The guards of docs/node-transaction.md, each removable: the proof must catch every removal, or it proves nothing.

A guard is removed from around the product's own decisions (what they see, what becomes of what they want) or from the
modelled host; nothing in the product knows about it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.core.actions import Action, Step, WriteNode
from reconciler.core.world import CordonOwner, NodeView, Term
from schema.facts import HostMode
from schema.transaction import ClaimState, Phase, Record


def _same(value: NodeView) -> NodeView:
    return value


def _kept(term: Term) -> Term:
    return term


def _wanted(term: Term, view: NodeView | None, action: Action) -> bool:
    del term, view, action
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """All guards in place, unless a field says otherwise.

    Attributes:
        breaks: property that must be found broken (`S1`, ..., `liveness`); empty when nothing is removed.
        sees: what an operator sees of a node.
        remembers: what an operator makes of its own term.
        wants: whether a decided action is carried out (term, node it is for, action).
        lists: what the LIST of row 1 finds keeps a leader from admitting.
        compare_and_swap: the server checks resourceVersions.
        claims, boots, locks: the builder writes its claim, compares boot ids, takes the host lock.
    """

    breaks: tuple[str, ...] = ()
    sees: Callable[[NodeView], NodeView] = _same
    remembers: Callable[[Term], Term] = _kept
    wants: Callable[[Term, NodeView | None, Action], bool] = _wanted
    lists: bool = True
    compare_and_swap: bool = True
    claims: bool = True
    boots: bool = True
    locks: bool = True


def _unfenced(term: Term) -> Term:
    return replace(
        term, reservations={name: replace(own, fenced=True) for name, own in term.reservations.items()}
    )


def _every_cordon_ours(view: NodeView) -> NodeView:
    return replace(view, cordon=CordonOwner.OURS) if view.cordon is CordonOwner.FOREIGN else view


def _begun_claims_unseen(view: NodeView) -> NodeView:
    begun = view.claim is not None and view.claim.state is ClaimState.BEGUN
    return replace(view, claim=None) if begun else view


def _live_is_enough(view: NodeView) -> NodeView:
    """As if every machine kept what is live there."""
    facts = view.facts
    if facts is None or facts.loaded is None:
        return view
    kept = next(entry for entry in facts.staged if entry.srcversion == facts.loaded.srcversion)
    return replace(view, facts=replace(facts, mode=HostMode.CONTAINER, active=kept))


def _no_foreign_cancel(term: Term, view: NodeView | None, action: Action) -> bool:
    if not isinstance(action, WriteNode) or action.step is not Step.RELEASE or view is None:
        return True
    record = view.record
    if not isinstance(record, Record) or record.phase is not Phase.RESERVED:
        return True
    own = term.reservations.get(view.name)
    return own is not None and own.id == record.id


ALL = Guards()
REMOVED: dict[str, Guards] = {
    "Lease fence (row 3)": Guards(breaks=("S1",), remembers=_unfenced),
    "compare-and-swap on writes": Guards(breaks=("S1", "S2", "S3", "S4"), compare_and_swap=False),
    "who owns the cordon (managedFields)": Guards(breaks=("S2",), sees=_every_cordon_ours),
    "claim by the builder (row 7)": Guards(breaks=("S4",), claims=False),
    "check of the claim at release (row 9)": Guards(breaks=("S4",), sees=_begun_claims_unseen),
    "reached only where active.json vouches (row 9)": Guards(breaks=("Done",), sees=_live_is_enough),
    "bootID in the permit": Guards(breaks=("S4",), boots=False),
    "host flock": Guards(breaks=("S4",), locks=False),
    "cancel of foreign reservations (row 1)": Guards(
        breaks=("liveness",), wants=_no_foreign_cancel, lists=False
    ),
}
