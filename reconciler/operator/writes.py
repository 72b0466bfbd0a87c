"""What each action is on the wire, and what the server's answer means. Pure: bodies and outcomes, no requests."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.adapters.kube import Response
from reconciler.core.actions import UNSET, EvictPod, Outcome, Unset, Verb, WriteNode
from schema.names import ANNOTATION_CLAIM, ANNOTATION_HISTORY, ANNOTATION_TXN
from schema.transaction import Claim, History, Record

CAUSE_BUDGET = "DisruptionBudget"
CAUSE_MISCONFIGURED = "Misconfigured"


def node_patch(action: WriteNode) -> dict[str, Any]:
    """One merge patch that the server refuses unless the node is still at `resource_version`."""
    annotations = {
        **action.annotations,
        **_annotation(ANNOTATION_TXN, action.record),
        **_annotation(ANNOTATION_CLAIM, action.claim),
        **_annotation(ANNOTATION_HISTORY, action.history),
    }
    metadata: dict[str, Any] = {"resourceVersion": action.resource_version}
    if annotations:
        metadata["annotations"] = annotations
    if action.labels:
        metadata["labels"] = dict(action.labels)
    patch: dict[str, Any] = {"metadata": metadata}
    if action.unschedulable is not UNSET:
        patch["spec"] = {
            "unschedulable": True if action.unschedulable else None
        }  # null also ends our ownership
    return patch


def _annotation(name: str, value: Record | Claim | History | Unset | None) -> dict[str, str | None]:
    if isinstance(value, Unset):
        return {}
    return {name: None if value is None else compact(value.to_json())}


def compact(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def eviction(action: EvictPod) -> dict[str, Any]:
    options: dict[str, Any] = {"preconditions": {"uid": action.uid}}
    if action.dry_run:
        options["dryRun"] = ["All"]
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": action.name, "namespace": action.namespace},
        "deleteOptions": options,
    }


def outcome_of(response: Response) -> Outcome:
    """2xx done, 404 gone, 409 conflict, no answer or 5xx unknown (it may have been written), the rest refused."""
    return Outcome(
        verb=_verb(response.code),
        code=response.code,
        resource_version=response.resource_version,
        message="" if response.ok else response.message,
    )


def _verb(code: int) -> Verb:
    if 200 <= code < 300:
        return Verb.DONE
    if code == 404:
        return Verb.GONE
    if code == 409:
        return Verb.CONFLICT
    return Verb.UNKNOWN if code == 0 or code >= 500 else Verb.REFUSED


def eviction_outcome(response: Response) -> Outcome:
    """As measured on a real server: 429 with a cause is a budget, 500 two budgets, 404 and 409 a pod that has gone."""
    outcome = outcome_of(response)
    match response.code:
        case 409:
            return _as(outcome, Verb.GONE)
        case 429:
            blocks = [
                cause.get("message", "") for cause in response.causes if cause.get("reason") == CAUSE_BUDGET
            ]
            named = replace(outcome, message=" ".join([outcome.message, *blocks]))
            return _as(named, Verb.REFUSED, CAUSE_BUDGET if blocks else "")
        case 500 if "more than one PodDisruptionBudget" in response.message:
            return _as(outcome, Verb.REFUSED, CAUSE_MISCONFIGURED)
    return outcome


def creation_outcome(response: Response) -> Outcome:
    """The name makes a pod one, whoever created it: AlreadyExists is done."""
    outcome = outcome_of(response)
    return _as(outcome, Verb.DONE) if response.code == 409 else outcome


def deletion_outcome(response: Response) -> Outcome:
    """Gone, or another object by now: done either way."""
    outcome = outcome_of(response)
    return _as(outcome, Verb.DONE) if response.code in {404, 409} else outcome


def _as(outcome: Outcome, verb: Verb, cause: str = "") -> Outcome:
    words = " ".join(outcome.message.split())
    return Outcome(verb=verb, code=outcome.code, cause=cause, message=words)
