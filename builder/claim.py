"""Rows 7 and 8 of the node transaction: the claim, which is the point of no return, and its answer.

The claim and a release by the operator race for one resourceVersion: either we exit, or nobody releases the node
before we are done (docs/node-transaction.md, S4).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from builder import facts as host_facts
from builder.api import CONFLICT, ApiError, NodeApi
from builder.context import Context, Stopped
from schema.facts import HostFacts
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HOST_FACTS,
    ANNOTATION_TXN,
    MANAGER_OPERATOR,
)
from schema.states import Reason
from schema.transaction import Claim, ClaimState, Phase, Record

TRIES: Final = 10
PUBLISH_TRIES: Final = 3
PAUSE_S: Final = 2.0
_FORBIDDEN: Final = frozenset({400, 401, 403, 404, 422})  # trying again changes nothing


class Standing(StrEnum):
    """What the node's annotations say of our permit."""

    OPEN = "open"  # permitted, nobody has claimed it
    OURS = "ours"  # claimed by a worker of this transaction: an answer is owed
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What this worker was started for. Empty version or commit: not asked."""

    id: str
    boot_id: str
    version: str = ""
    commit: str = ""


def judge(node: Mapping[str, Any], permit: Permit) -> tuple[Standing, str]:
    """Whether the node, as just read, permits the swap; the second value says why not."""
    record = _parsed(node, ANNOTATION_TXN, Record.from_json)
    if record is None or record.id != permit.id:
        return Standing.VOID, f"no record with id {permit.id}"
    if record.phase is not Phase.PERMITTED or record.boot_id != permit.boot_id:
        return Standing.VOID, f"record is {record.phase} for boot {record.boot_id}, this is {permit.boot_id}"
    wanted = (permit.version or record.to.version, permit.commit or record.to.commit)
    if wanted != (record.to.version, record.to.commit):
        return Standing.VOID, f"record wants {record.to.version} {record.to.commit}"
    claim = _parsed(node, ANNOTATION_CLAIM, Claim.from_json)
    if claim is not None:
        if claim.id != permit.id:
            return Standing.VOID, f"claimed by {claim.id}"
        if claim.state is ClaimState.DONE:
            return Standing.VOID, f"{claim.id} has been answered already"
        return Standing.OURS, ""
    if not _cordon_is_ours(node):
        return Standing.VOID, "the node is not cordoned by the operator alone"
    return Standing.OPEN, ""


def look(context: Context, permit: Permit) -> Standing:
    """A live read: OPEN or OURS.

    Raises:
        Stopped: PermitVoid; nothing has been changed.
    """
    return _tried(context, permit, lambda _node: None)


def begin(context: Context, permit: Permit) -> None:
    """Row 7: a live read, then one write that carries its resourceVersion. Ours already: nothing is written.

    Raises:
        Stopped: PermitVoid; nothing has been changed.
    """
    claim = Claim(id=permit.id, state=ClaimState.BEGUN)
    api = _api(context)
    _tried(context, permit, lambda node: api.patch(_metadata(node, {ANNOTATION_CLAIM: _text(claim)})))


def _tried(context: Context, permit: Permit, when_open: Callable[[dict[str, Any]], object]) -> Standing:
    """Read and judge; act on an open permit; after a conflict or an outage read and judge again."""
    api = _api(context)
    for _ in range(TRIES):
        try:
            node = api.get()
            standing, why = judge(node, permit)
            if standing is Standing.VOID:
                raise Stopped(Reason.PERMIT_VOID, why)
            if standing is Standing.OPEN:
                when_open(node)
        except ApiError as error:
            _again(context, error)
        else:
            return standing
    raise Stopped(Reason.PERMIT_VOID, f"no answer from the API server in {TRIES} tries")


def stands(context: Context, transaction_id: str, boot_id: str) -> bool:
    """Does a permit or claim of this transaction stand for this boot? An unreachable API counts as yes."""
    if context.api is None:
        return False
    try:
        node = context.api.get()
    except ApiError as error:
        context.log(f"api: {error}")
        return True
    standing, _ = judge(node, Permit(id=transaction_id, boot_id=boot_id))
    return standing is not Standing.VOID


def is_recorded(context: Context, transaction_id: str) -> bool:
    """Does the node carry this transaction's record, in any phase? An unreachable API counts as yes."""
    if context.api is None:
        return False
    try:
        record = _parsed(context.api.get(), ANNOTATION_TXN, Record.from_json)
    except ApiError as error:
        context.log(f"api: {error}")
        return True
    return record is not None and record.id == transaction_id


def finish(context: Context, claim: Claim) -> bool:
    """Row 8, with labels and facts in the same write. False: it did not land, a later worker replays it."""
    api = _api(context)
    for _ in range(TRIES):
        try:
            node = api.get()
            present = _parsed(node, ANNOTATION_CLAIM, Claim.from_json)
            if present is None or present.id != claim.id or present.state is ClaimState.DONE:
                report(context, node)
                return present is not None and present.id == claim.id
            facts = host_facts.read_facts(context.host)
            api.patch(_metadata(node, _annotations(facts, claim), host_facts.labels(facts)))
        except ApiError as error:
            try:
                _again(context, error)
            except Stopped as refused:
                context.log(f"claim not written: {refused}")
                return False
        else:
            return True
    return False


def report(context: Context, node: Mapping[str, Any] | None = None) -> bool:
    """Write labels and facts where they differ from what the node shows; returns whether anything was written.

    Raises:
        ApiError: also 409; the next pass decides anew.
    """
    api = _api(context)
    node = api.get() if node is None else node
    facts = host_facts.read_facts(context.host)
    annotations, labels = _annotations(facts), host_facts.labels(facts)
    metadata = node["metadata"]
    if _same(metadata.get("labels"), labels) and _same(metadata.get("annotations"), annotations):
        return False
    api.patch(_metadata(node, annotations, labels))
    return True


def publish(context: Context) -> bool:
    """`report` for verbs that go on without an API server; whether anything was written."""
    if context.api is None:
        return False
    for _ in range(PUBLISH_TRIES):
        try:
            return report(context)
        except ApiError as error:
            context.log(f"facts not written: {error}")
            if error.code != CONFLICT:
                break
    return False


def _same(present: Mapping[str, str] | None, wanted: Mapping[str, str | None]) -> bool:
    return all((present or {}).get(key) == value for key, value in wanted.items())


def _annotations(facts: HostFacts, claim: Claim | None = None) -> dict[str, str | None]:
    found: dict[str, str | None] = {ANNOTATION_HOST_FACTS: host_facts.to_text(facts)}
    return found | ({ANNOTATION_CLAIM: _text(claim)} if claim else {})


def _metadata(
    node: Mapping[str, Any],
    annotations: Mapping[str, str | None],
    labels: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    metadata = {
        "resourceVersion": node["metadata"]["resourceVersion"],
        "annotations": dict(annotations),
        "labels": dict(labels or {}),
    }
    return {key: value for key, value in metadata.items() if value}


def _again(context: Context, error: ApiError) -> None:
    """A conflict is decided anew at once, an outage after a pause; a refusal never.

    Raises:
        Stopped: the server forbids it.
    """
    context.log(f"api: {error}")
    if error.code in _FORBIDDEN:
        raise Stopped(Reason.PERMIT_VOID, str(error))
    if error.code != CONFLICT:
        context.clock.sleep(PAUSE_S)


def _api(context: Context) -> NodeApi:
    if context.api is None:
        raise Stopped(Reason.PERMIT_VOID, "no API server: KUBERNETES_SERVICE_HOST or NODE_NAME is not set")
    return context.api


def _cordon_is_ours(node: Mapping[str, Any]) -> bool:
    """By managedFields: the operator set `spec.unschedulable`, and nobody else holds the field too."""
    if not (node.get("spec") or {}).get("unschedulable"):
        return False
    owners = {
        entry.get("manager")
        for entry in node["metadata"].get("managedFields") or ()
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }
    return owners == {MANAGER_OPERATOR}


def _parsed(node: Mapping[str, Any], annotation: str, parse: Any) -> Any:
    """The annotation as a value; None where it is absent or cannot be read."""
    text = (node["metadata"].get("annotations") or {}).get(annotation)
    try:
        return parse(json.loads(text)) if text else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _text(claim: Claim) -> str:
    return json.dumps(claim.to_json(), separators=(",", ":"))
