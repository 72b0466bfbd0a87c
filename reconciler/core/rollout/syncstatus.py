"""status of a FleetSync: kstatus conditions, how far each wave is, the plans so far. Equal worlds give equal status."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.core.rollout.rollout import Progress, Rollout
from reconciler.core.rollout.syncworld import FleetWorld, Stall
from schema.clock import format_rfc3339
from schema.sync import SyncMode, SyncReason, WaveState

PLANS_KEPT: Final = 50  # besides the newest of each pool
_MESSAGE_LIMIT: Final = 1024


def sync_status(
    world: FleetWorld,
    now: float,
    rollouts: Sequence[Rollout],
    progress: Mapping[str, Sequence[Progress]],
    *,
    applied: bool,
    stall: Stall | None = None,
) -> dict[str, Any]:
    """The whole status; what a fault hides is kept from the served one.

    Args:
        world: what was looked at.
        now: POSIX seconds, for what changes now.
        rollouts: every pool's plan; empty where nothing could be planned.
        progress: waves of each pool.
        applied: nothing of this commit is left to be written at this point of its plans.
        stall: the fault, if there is one.
    """
    served, at = world.sync.status, format_rfc3339(now)
    status: dict[str, Any] = {
        key: served[key] for key in ("lastAppliedRevision", "plan", "wave", "nodes", "policies", "waves", "plans")
        if key in served
    }  # fmt: skip
    status["observedGeneration"] = world.sync.generation
    if world.tree is not None:
        status["lastAttemptedRevision"] = world.tree.revision
    elif "lastAttemptedRevision" in served:
        status["lastAttemptedRevision"] = served["lastAttemptedRevision"]
    if rollouts and stall is None:
        status |= _rollout_status(world, rollouts, progress, at)
        if applied and world.tree is not None:
            status["lastAppliedRevision"] = world.tree.revision
    status["conditions"] = [
        _kept(condition | {"observedGeneration": world.sync.generation}, served, at)
        for condition in _conditions(world, rollouts, progress, stall, applied=applied)
    ]
    return status


def _rollout_status(
    world: FleetWorld, rollouts: Sequence[Rollout], progress: Mapping[str, Sequence[Progress]], at: str
) -> dict[str, Any]:
    steps = [step for rollout in rollouts for step in progress[rollout.pool.name]]
    running = next((rollout for rollout in rollouts if not rollout.complete), None)
    current = next((s for s in progress[running.pool.name] if not s.passed), None) if running else None
    return {
        "plan": str(running.id) if running else "",
        "wave": f"{current.wave.name} {current.done}/{current.nodes}" if current else "",
        "nodes": f"{sum(step.done for step in steps)}/{sum(step.nodes for step in steps)}",
        "policies": sum(len(rollout.groups) for rollout in rollouts),
        "waves": [
            _wave(rollout, step, world.sync.status, at)
            for rollout in rollouts
            for step in progress[rollout.pool.name]
        ],
        "plans": _plans(world, rollouts, at),
    }


def _wave(rollout: Rollout, step: Progress, served: Mapping[str, Any], at: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "pool": rollout.pool.name,
        "name": step.wave.name,
        "rank": step.wave.rank,
        "state": str(step.state),
        "nodes": step.nodes,
        "done": step.done,
        "failed": step.failed,
    }
    if step.state is not WaveState.CLOSED:
        entry["plan"] = str(rollout.id)
        same = ("pool", "name", "plan")
        before = [w for w in served.get("waves", ()) if all(w.get(key) == entry[key] for key in same)]
        entry["openedAt"] = before[0].get("openedAt", at) if before else at
    if step.state is WaveState.OPEN and step.waits_for:
        entry["message"] = step.waits_for[:_MESSAGE_LIMIT]
    return entry


def _plans(world: FleetWorld, rollouts: Sequence[Rollout], at: str) -> list[dict[str, Any]]:
    """Newest first. The newest of each pool is never dropped, so that no number is used twice."""
    plans = [dict(entry) for entry in world.sync.status.get("plans", ())]
    known = {entry["id"] for entry in plans}
    new = []
    for rollout in rollouts:
        if str(rollout.id) not in known:
            new.append(_plan(world, rollout, at))
        for entry in plans:
            mine = entry["pool"] == rollout.pool.name and "finishedAt" not in entry
            if mine and entry["id"] != str(rollout.id):
                entry |= {"finishedAt": at, "result": "Superseded"}
            elif mine and rollout.complete:
                entry |= {"finishedAt": at, "result": "Done"}
    every = new + plans
    newest = {entry["pool"]: entry["id"] for entry in reversed(every)}
    return [
        entry for rank, entry in enumerate(every) if rank < PLANS_KEPT or newest[entry["pool"]] == entry["id"]
    ]


def _plan(world: FleetWorld, rollout: Rollout, at: str) -> dict[str, Any]:
    revision = world.tree.revision if world.tree else ""
    entry = {
        "pool": rollout.pool.name,
        "number": rollout.id.number,
        "id": str(rollout.id),
        "revision": revision,
        "startedAt": at,
    }
    return entry | ({"finishedAt": at, "result": "Done"} if rollout.complete else {})


def _conditions(
    world: FleetWorld,
    rollouts: Sequence[Rollout],
    progress: Mapping[str, Sequence[Progress]],
    stall: Stall | None,
    *,
    applied: bool,
) -> list[dict[str, str]]:
    """Ready always; Reconciling and Stalled only while true (kstatus)."""
    if stall is not None:
        message = stall.message[: _MESSAGE_LIMIT * 4]
        return [
            _condition("Ready", "False", stall.reason, message),
            _condition("Stalled", "True", stall.reason, message),
        ]
    what = _going_on(rollouts, progress)
    if world.sync.spec.suspend or world.sync.hold:
        why = world.sync.hold or "spec.suspend is true"
        return [_condition("Ready", "False", SyncReason.SUSPENDED, why)]
    if world.sync.spec.mode is not SyncMode.ENFORCE:
        return [_condition("Ready", "True", SyncReason.OBSERVING, what or _reached(progress))]
    if not what and not applied:
        what = "policies are being written"
    if not what:
        return [_condition("Ready", "True", SyncReason.APPLIED, _reached(progress))]
    return [
        _condition("Ready", "False", SyncReason.PROGRESSING, what),
        _condition("Reconciling", "True", SyncReason.PROGRESSING, what),
    ]


def _reached(progress: Mapping[str, Sequence[Progress]]) -> str:
    """What a plan that is over has come to: nodes on which nothing may start do not keep it open."""
    steps = [step for steps in progress.values() for step in steps]
    done, nodes = sum(step.done for step in steps), sum(step.nodes for step in steps)
    if done == nodes:
        return "every node is as the repository says"
    return f"{done} of {nodes} nodes are as the repository says, the others held, skipped, offline, host-managed or failed"


def _going_on(rollouts: Sequence[Rollout], progress: Mapping[str, Sequence[Progress]]) -> str:
    """One clause a pool that is not complete: plan, first wave that is not done, what it waits for."""
    clauses = []
    for rollout in rollouts:
        step = next((s for s in progress[rollout.pool.name] if not s.passed), None)
        if rollout.complete or step is None:
            continue
        stopped = next((part.stopped for part in rollout.of_wave(step.wave) if part.stopped), "")
        waits = (
            f", release blocked: {stopped}"
            if stopped
            else f", waits for {step.waits_for}" * bool(step.waits_for)
        )
        clauses.append(f"{rollout.id} {step.wave.name} {step.done}/{step.nodes}{waits}")
    return "; ".join(clauses)[:_MESSAGE_LIMIT]


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": str(reason), "message": message}


def _kept(condition: Mapping[str, Any], served: Mapping[str, Any], at: str) -> dict[str, Any]:
    """With the time of its last transition."""
    for before in served.get("conditions", ()):
        if before.get("type") == condition["type"] and before.get("status") == condition["status"]:
            return {**condition, "lastTransitionTime": before.get("lastTransitionTime", at)}
    return {**condition, "lastTransitionTime": at}
