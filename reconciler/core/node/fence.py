"""Fence: who may start nodes. Rows 1 and 3 of docs/node-transaction.md.

Leadership is the resourceVersion of our own last Lease write, nothing else. Time only says when to renew and when to
take over; a wrong clock costs leadership, never safety.
"""

from reconciler.core.actions import Action, RenewLease, ScanNodes, TakeLease
from reconciler.core.world import World
from schema.transaction import Phase


def fence(world: World, now: float) -> tuple[Action, ...]:
    """The Lease write or LIST that is due now."""
    if not world.term.leads:
        return _take(world)
    covers = landed(world)
    due = now - world.term.renewed_at >= world.settings.lease_renew_s
    renew: tuple[Action, ...] = ()
    if covers or due:
        version = world.term.lease_version
        assert version is not None
        renew = (RenewLease(resource_version=version, holder=world.term.identity, covers=covers),)
    return renew + _scan(world)


def _take(world: World) -> tuple[Action, ...]:
    """Row 1: no Lease yet, nobody holds it, its holder fell silent, or it was ours in a term that we lost."""
    lease = world.lease
    free = lease.resource_version is None or lease.holder in {"", world.term.identity}
    if free or lease.unchanged_for_s >= world.settings.lease_duration_s:
        return (TakeLease(resource_version=lease.resource_version, holder=world.term.identity),)
    return ()


def _scan(world: World) -> tuple[Action, ...]:
    """Row 1, second half: a quorum LIST until it shows no foreign reservation; those seen are cancelled first."""
    return () if world.term.clean or foreign_reserved(world) else (ScanNodes(),)


def landed(world: World) -> tuple[str, ...]:
    """Nodes whose reservation of our own is known to stand and is not fenced yet (row 3's precondition)."""
    return tuple(
        sorted(
            name
            for name, own in world.term.reservations.items()
            if not own.fenced
            and (node := world.nodes.get(name)) is not None
            and node.record is not None
            and node.record.phase is Phase.RESERVED
            and node.record.id == own.id
        )
    )


def foreign_reserved(world: World) -> tuple[str, ...]:
    """Nodes with a `Reserved` that this term did not write: to be cancelled."""
    own = world.term.reservations
    return tuple(
        sorted(
            node.name
            for node in world.nodes.values()
            if node.record is not None
            and node.record.phase is Phase.RESERVED
            and not node.faults
            and (node.name not in own or own[node.name].id != node.record.id)
        )
    )


def wake_s(world: World, now: float) -> float:
    """Seconds until the Lease needs a look."""
    if world.term.leads:
        return max(0.0, world.term.renewed_at + world.settings.lease_renew_s - now)
    return max(0.1, world.settings.lease_duration_s - world.lease.unchanged_for_s)
