"""The ten writes of docs/node-transaction.md: one function a row, each decides only its own bytes.

When a row is due, and that its precondition holds, is decided by the callers (fence, admission, progress). Row 7 and 8
are the builder's.
"""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.actions import UNSET, CreatePod, Step, Unset, WriteNode
from reconciler.core.node.targets import live
from reconciler.core.world import CordonOwner, NodeView, PodRole, PolicyView, Reservation, Settings
from schema.clock import format_rfc3339
from schema.names import (
    ANNOTATION_CORDONED_AT,
    ANNOTATION_CORDONED_BY,
    ANNOTATION_KEEP_CORDONED,
    ANNOTATION_PLAN,
    DEPLOY_GATE_CLOSED,
    SWAP_POD_PREFIX,
)
from schema.states import Reason
from schema.target import Target
from schema.transaction import History, Phase, Record, transaction_id, transaction_serial


def reserve(node: NodeView, policy: PolicyView, target: Target, now: float) -> WriteNode:
    """Row 2: the node is ours to work on, as far as the budgets go; nothing has happened to it yet."""
    closed = node.facts.last_id if node.facts and node.facts.last_id else ""
    serial = (
        max(node.history.serial, transaction_serial(closed)) + 1
    )  # beyond every id that the host has closed
    at = format_rfc3339(now)
    record = Record(
        id=transaction_id(node.uid, target, serial),
        cr=policy.name,
        plan=policy.annotations.get(ANNOTATION_PLAN, ""),
        from_=live(node.facts),
        to=target,
        phase=Phase.RESERVED,
        since=at,
        reserved=at,
    )
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.RESERVE,
        cr=policy.name,
        record=record,
        claim=None if node.claim else UNSET,
        history=replace(node.history, serial=serial),
    )


def cordon(
    node: NodeView, record: Record, reservation: Reservation, settings: Settings, now: float
) -> WriteNode:
    """Row 4: cordon, gates and phase in one patch, with the resourceVersion that row 2 returned."""
    at = format_rfc3339(now)
    initial = tuple(sorted((gate, node.labels.get(gate)) for gate in settings.gates))
    return WriteNode(
        node=node.name,
        resource_version=reservation.resource_version,
        step=Step.CORDON,
        cr=record.cr,
        record=replace(record, phase=Phase.CORDONED, since=at, initial=initial),
        unschedulable=True,
        labels=dict.fromkeys(settings.gates, DEPLOY_GATE_CLOSED),
        annotations={ANNOTATION_CORDONED_BY: f"ttfleet/{record.cr}", ANNOTATION_CORDONED_AT: at},
    )


def permit(node: NodeView, record: Record, now: float) -> WriteNode:
    """Row 5: the builder may unload, in this boot."""
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.PERMIT,
        cr=record.cr,
        record=replace(record, phase=Phase.PERMITTED, since=format_rfc3339(now), boot_id=node.boot_id),
        claim=None if node.claim else UNSET,  # a claim of another id would keep the builder out
    )


def worker(
    node: NodeView, record: Record, policy: PolicyView | None, settings: Settings, attempt: int
) -> CreatePod:
    """Row 6: worker pod `attempt` of this transaction; the name makes it one, whoever creates it."""
    spec = policy.spec if policy else None
    return CreatePod(
        role=PodRole.SWAP,
        name=f"{SWAP_POD_PREFIX}{record.id}-{attempt}",
        node=node.name,
        cr=record.cr,
        target=record.to,
        txn_id=record.id,
        boot_id=record.boot_id or "",
        attempt=attempt,
        image=(spec.image if spec else "") or settings.image,
        image_pull_policy=spec.image_pull_policy if spec else "",
        force_unload=spec.force_unload if spec else False,
    )


def cancel(node: NodeView, record: Record, reason: Reason) -> WriteNode:
    """Row 9 on a reservation: only the record goes, nothing else was written."""
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.RELEASE,
        cr=record.cr,
        record=None,
        reason=str(reason),
    )


def release(node: NodeView, record: Record, history: History, reason: Reason | str = "") -> WriteNode:
    """Row 9: record, claim and gates go, history is written, and a cordon of ours is lifted, in one patch."""
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.RELEASE,
        cr=record.cr,
        record=None,
        claim=None if node.claim else UNSET,
        history=UNSET if history == node.history else history,
        unschedulable=_lifted(node),
        labels=dict(record.initial),
        annotations=_unmarked(),
        reason=str(reason),
    )


def rearm(node: NodeView, record: Record, now: float) -> WriteNode:
    """Row 10: the machine rebooted under the claim; back to Cordoned, decided anew."""
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.REARM,
        cr=record.cr,
        record=replace(record, phase=Phase.CORDONED, since=format_rfc3339(now), boot_id=None),
        claim=None,
        reason=str(Reason.REBOOTED),
    )


def sweep(node: NodeView, settings: Settings) -> WriteNode:
    """A cordon of ours whose record is gone (somebody removed the annotation): lift it, open the gates (L2)."""
    closed = [gate for gate in settings.gates if node.labels.get(gate) == DEPLOY_GATE_CLOSED]
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.RELEASE,
        cr=node.annotations.get(ANNOTATION_CORDONED_BY, "").partition("/")[2],
        claim=None if node.claim else UNSET,
        unschedulable=_lifted(node),
        labels=dict.fromkeys(closed),
        annotations=_unmarked(),
    )


def note(node: NodeView, cr: str, history: History, reason: Reason | str) -> WriteNode:
    """No row: a failure before any record (a failed stage), so that the next try waits."""
    return WriteNode(
        node=node.name,
        resource_version=node.resource_version,
        step=Step.NOTE,
        cr=cr,
        history=history,
        reason=str(reason),
    )


def _lifted(node: NodeView) -> bool | Unset:
    """S2: only a cordon that managedFields give to us, and that no human wants to stay, is lifted."""
    ours = node.cordon is CordonOwner.OURS
    return False if ours and ANNOTATION_KEEP_CORDONED not in node.annotations else UNSET


def _unmarked() -> Mapping[str, str | None]:
    return {ANNOTATION_CORDONED_BY: None, ANNOTATION_CORDONED_AT: None}
