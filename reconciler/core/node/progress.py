"""Progress: a node that carries a record. Rows 4, 5, 6, 9 and 10 of docs/node-transaction.md.

Rows 4 and the cancelling of reservations are the leader's; everything after Cordoned is any operator's.
"""

from dataclasses import replace

from reconciler.core.actions import Action, DeletePod
from reconciler.core.node import drain, retry, transaction
from reconciler.core.node.assignment import Assignment
from reconciler.core.node.scene import Next, Scene
from reconciler.core.node.stops import stop
from reconciler.core.node.targets import current_facts, promoted, reached, staged
from reconciler.core.world import CordonOwner, NodeView, PodView
from schema.clock import seconds
from schema.states import NodeState, Reason
from schema.transaction import Claim, ClaimState, Phase, Record, Result
from schema.verdict import Verdict

WORKER_TRIES = 3  # workers that end without a word before the claim
WORKER_AGAIN_S = 5.0  # doubled with each worker after that
WORKER_AGAIN_LIMIT_S = 300.0
PERMIT_LIMIT_S = 300.0  # a permit that nobody claims is taken back
VALIDATE_LIMIT_S = 120.0  # how long facts may differ from the claim's verdict
STALE_LIMIT_S = 600.0  # how long a release waits for pods that hold devices of the previous module


def work(scene: Scene, node: NodeView, record: Record) -> Next:
    """The next step of a transaction, by its stored phase."""
    if node.faults:
        return Next(
            state=NodeState.BLOCKED, reason=Reason.UNREADABLE_ANNOTATION, message="; ".join(node.faults)
        )
    match record.phase:
        case Phase.RESERVED:
            return _reserved(scene, node, record)
        case Phase.CORDONED:
            return _cordoned(scene, node, record)
        case Phase.PERMITTED:
            claim = node.claim if node.claim and node.claim.id == record.id else None
            if claim is None:
                return _permitted(scene, node, record)
            return (
                _begun(scene, node, record)
                if claim.state is ClaimState.BEGUN
                else _done(scene, node, record, claim)
            )


def void(scene: Scene, node: NodeView, record: Record) -> tuple[Reason, str] | None:
    """Why a transaction before its claim is given up without a failure: a stop, or nobody wants `to` any more."""
    assignment = scene.assignments.get(node.name)
    if assignment is None or assignment.policy.name != record.cr:
        return Reason.TARGET_CHANGED, f"ttdp {record.cr} no longer matches this node"
    if halt := stop(scene.world, node, assignment):
        return halt.reason, halt.message
    if assignment.overlap:
        return Reason.OVERLAP, ", ".join(policy.name for policy in assignment.policies)
    return _unwanted(node, assignment, record)


def _unwanted(node: NodeView, assignment: Assignment, record: Record) -> tuple[Reason, str] | None:
    waiting = any(policy.spec.waiting for policy in assignment.policies)
    target = promoted(assignment.policy) if waiting else assignment.target
    if target is None or not target.same_module(record.to):
        return (Reason.WAVE_CLOSED if waiting else Reason.TARGET_CHANGED), f"wants {target or 'nothing'}"
    if waiting and node.facts and node.facts.loaded:
        return Reason.WAVE_CLOSED, "a module is loaded"
    return None


def _reserved(scene: Scene, node: NodeView, record: Record) -> Next:
    """Row 4 once row 3 has fenced our own reservation; row 9 for one of another term, or when anything changed."""
    term = scene.world.term
    shown = Next(state=NodeState.CORDONING, message="reserved")
    if not term.leads and not scene.world.settings.observe:
        return shown
    own = term.reservations.get(node.name)
    if own is None or own.id != record.id:
        return _cancelled(node, record, Reason.NOT_LEADER)
    if why := void(scene, node, record):
        return _cancelled(node, record, why[0])
    if node.unschedulable or not node.ready:
        return _cancelled(
            node, record, Reason.EXTERNAL_CORDON if node.unschedulable else Reason.NODE_NOT_READY
        )
    if not own.fenced:
        return shown
    write = transaction.cordon(node, record, own, scene.world.settings, scene.now)
    return Next(state=NodeState.CORDONING, actions=(write,))


def _cancelled(node: NodeView, record: Record, reason: Reason) -> Next:
    write = transaction.cancel(node, record, reason)
    return Next(state=NodeState.CORDONING, reason=reason, actions=(write,))


def _cordoned(scene: Scene, node: NodeView, record: Record) -> Next:
    """Row 5 when drained; row 9 for whatever keeps it from that."""
    if why := void(scene, node, record):
        return _given_up(node, record, *why)
    if lost := _cordon_lost(scene, node, record):
        return lost
    facts = current_facts(node)
    if reached(facts, record.to):  # a reboot after the claim finished the work
        return _settle(scene, node, record, Result.OK, None, None)
    policy = scene.assignments[node.name].policy
    left_s = seconds(record.since) + policy.spec.drain.timeout_s - scene.now
    if not node.ready or facts is None:
        reason = Reason.NO_FACTS if node.ready else Reason.NODE_NOT_READY
        return _wait(
            scene, node, record, drain.Trouble(reason=reason, message="waiting for the node"), left_s
        )
    if staged(facts, record.to) is None:
        return _failed(scene, node, record, Reason.REBOOTED, "the module is not staged for this kernel")
    look = _drain(scene, node, record)
    if look.drained:
        return Next(state=NodeState.DRAINING, actions=(transaction.permit(node, record, scene.now),))
    if look.trouble:
        return _failed(scene, node, record, look.trouble.reason, look.trouble.message)
    return _wait(scene, node, record, look.waiting, left_s, look.evictions)


def _drain(scene: Scene, node: NodeView, record: Record) -> drain.Look:
    facts = current_facts(node)
    if facts and facts.loaded is None:  # nobody can hold what is not there
        return drain.Look(drained=True)
    return drain.progress(
        record.cr,
        scene.pods(node.name),
        scene.assignments[node.name].policy.spec.drain,
        scene.world.term.answers,
        cordoned_at=seconds(record.reserved),
        now=scene.now,
    )


def _wait(
    scene: Scene,
    node: NodeView,
    record: Record,
    trouble: drain.Trouble | None,
    left_s: float,
    actions: tuple[Action, ...] = (),
) -> Next:
    """Draining goes on until the time-out; then the node is released with what it was waiting for (H4)."""
    reason = trouble.reason if trouble else Reason.DRAIN_TIMEOUT
    message = trouble.message if trouble else ""
    if left_s <= 0:
        return _failed(scene, node, record, reason, message)
    shown = None if reason is Reason.DRAIN_TIMEOUT else reason
    return Next(
        state=NodeState.DRAINING,
        reason=shown,
        message=message,
        actions=actions,
        wake_s=min(left_s, drain.EVICT_AGAIN_S),
    )


def _permitted(scene: Scene, node: NodeView, record: Record) -> Next:
    """Row 6, and before the claim still row 9."""
    if why := void(scene, node, record):
        return _given_up(node, record, *why)
    if lost := _cordon_lost(scene, node, record):
        return lost
    if node.boot_id != record.boot_id:
        return _failed(scene, node, record, Reason.REBOOTED, "rebooted before the claim")
    workers = scene.workers(node.name, record.id)
    last = workers[-1] if workers else None
    left_s = seconds(record.since) + PERMIT_LIMIT_S - scene.now
    held = [worker for worker in workers if _held(worker)]
    if held:
        left_s = max(left_s, _patience_s(scene, node, record))
    if last and last.finished and last.verdict and _refuses(last.verdict):
        return _refused(scene, node, record, last)
    if last and last.finished and last.attempt >= WORKER_TRIES and last.verdict is None:
        return _failed(scene, node, record, Reason.BUILDER_CRASH_LOOP, f"pod {last.name}")
    if left_s <= 0:
        reason = (held[-1].verdict.reason if held and held[-1].verdict else None) or _stuck(node, last)
        return _failed(scene, node, record, reason, "no claim in time")
    look = _drain(scene, node, record)  # somebody may have landed since the permit
    if look.trouble:
        return _failed(scene, node, record, look.trouble.reason, look.trouble.message)
    step = _worker(scene, node, record, last, NodeState.UPGRADING, left_s)
    return replace(step, actions=(*step.actions, *look.evictions))


def _refused(scene: Scene, node: NodeView, record: Record, worker: PodView) -> Next:
    """The builder changed nothing and says why. With drain off, people are given the time to end their work."""
    verdict = worker.verdict
    assert verdict is not None
    left_s = _patience_s(scene, node, record)
    if _held(worker) and left_s > 0:
        return _worker(scene, node, record, worker, NodeState.DRAINING, left_s)
    return _failed(scene, node, record, verdict.reason or Reason.PERMIT_VOID, verdict.message)


def _refuses(verdict: Verdict) -> bool:
    """Nothing has been done; a verdict that was replayed (rolled back, say) is to be claimed, not refused."""
    return not verdict.changed and verdict.result in {Result.REFUSED, Result.FAILED}


def _held(worker: PodView) -> bool:
    """This worker met a module in use."""
    verdict = worker.verdict
    return verdict is not None and verdict.reason in {Reason.DEVICE_IN_USE, Reason.UNKNOWN_HOLDER}


def _patience_s(scene: Scene, node: NodeView, record: Record) -> float:
    """Seconds that people have left to end their work: with drain off the whole time-out, else none."""
    spec = scene.assignments[node.name].policy.spec.drain
    return 0.0 if spec.enable else seconds(record.reserved) + spec.timeout_s - scene.now


def _stuck(node: NodeView, worker: PodView | None) -> Reason:
    if not node.ready:
        return Reason.NODE_NOT_READY
    image = worker is not None and worker.stuck_reason in {"ErrImagePull", "ImagePullBackOff"}
    return Reason.BUILDER_IMAGE_PULL_FAILED if image else Reason.VERDICT_LOST


def _begun(scene: Scene, node: NodeView, record: Record) -> Next:
    """Past the point of no return: row 10 after a reboot, otherwise a worker until the claim is done. No time-out."""
    if node.boot_id != record.boot_id:
        write = transaction.rearm(node, record, scene.now)
        return Next(state=NodeState.UPGRADING, reason=Reason.REBOOTED, actions=(write,))
    workers = scene.workers(node.name, record.id)
    return _worker(scene, node, record, workers[-1] if workers else None, NodeState.UPGRADING, 30.0)


def _worker(
    scene: Scene, node: NodeView, record: Record, last: PodView | None, state: NodeState, wake_s: float
) -> Next:
    """Row 6: the first worker, or the next one when the last ended without a done claim (it resumes the journal)."""
    assignment = scene.assignments.get(node.name)
    policy = assignment.policy if assignment else None
    if last is None:
        first = transaction.worker(node, record, policy, scene.world.settings, 1)
        return Next(state=state, actions=(first,), wake_s=wake_s)
    if not last.finished:
        return Next(state=state, message=last.stuck_reason, wake_s=wake_s)
    again_s = min(WORKER_AGAIN_LIMIT_S, WORKER_AGAIN_S * 2.0 ** min(last.attempt - 1, 10))
    due_s = last.finished_at + again_s - scene.now
    if due_s > 0:
        return Next(state=state, reason=Reason.VERDICT_LOST, message=last.name, wake_s=min(due_s, wake_s))
    following = transaction.worker(node, record, policy, scene.world.settings, last.attempt + 1)
    return Next(state=state, reason=Reason.VERDICT_LOST, actions=(following,), wake_s=wake_s)


def _done(scene: Scene, node: NodeView, record: Record, claim: Claim) -> Next:
    """Row 9 after row 8."""
    result = claim.result or Result.FAILED
    facts = current_facts(node)
    if result is Result.REBOOT_REQUIRED:
        if node.boot_id == record.boot_id or facts is None:
            message = claim.reason or "neither module loads"
            return Next(state=NodeState.FAILED, reason=Reason.REBOOT_REQUIRED, message=message)
        if facts.loaded is not None:
            result = Result.OK if reached(facts, record.to) else Result.ROLLED_BACK
        return _settle(scene, node, record, result, claim.reason, claim.outage_s)
    if result is Result.OK and facts is None:  # rebooted since: the keeper will say
        return Next(state=NodeState.VALIDATING, reason=Reason.NO_FACTS)
    if result is Result.OK and not reached(facts, record.to):
        left_s = _loaded_at(scene, node, record) + VALIDATE_LIMIT_S - scene.now
        if left_s > 0:
            return Next(state=NodeState.VALIDATING, wake_s=left_s)
        result = Result.FAILED
        return _settle(scene, node, record, result, Reason.VERIFY_FAILED, claim.outage_s)
    return _settle(scene, node, record, result, claim.reason, claim.outage_s)


def _settle(
    scene: Scene,
    node: NodeView,
    record: Record,
    result: Result,
    reason: str | None,
    outage_s: float | None,
) -> Next:
    """Row 9 once no pod is left that bound a device of the module that has gone (host.md 15)."""
    changed = result in {Result.OK, Result.ROLLED_BACK, Result.REBOOT_REQUIRED}
    loaded_at = _loaded_at(scene, node, record)
    stale = [
        pod
        for pod in drain.holders(scene.pods(node.name))
        if changed and not pod.mirror and pod.started_at <= loaded_at
    ]
    if stale and scene.now < loaded_at + STALE_LIMIT_S:
        deletes = tuple(
            DeletePod(
                namespace=pod.namespace, name=pod.name, uid=pod.uid, node=node.name, reason="stale device"
            )
            for pod in stale
            if not pod.terminating
        )
        message = f"{len(stale)} pods hold devices of the previous module"
        return Next(state=NodeState.UNCORDONING, message=message, actions=deletes, wake_s=30.0)
    history = (
        retry.succeeded(
            node, plan=record.plan, from_=record.from_, to=record.to, now=scene.now, outage_s=outage_s
        )
        if result is Result.OK
        else retry.failed(
            node,
            scene.world.settings,
            plan=record.plan,
            from_=record.from_,
            to=record.to,
            result=result,
            reason=reason or Reason.VERDICT_LOST,
            now=scene.now,
            outage_s=outage_s,
        )
    )
    write = transaction.release(node, record, history, reason or "")
    return Next(state=NodeState.UNCORDONING, actions=(write,))


def _loaded_at(scene: Scene, node: NodeView, record: Record) -> float:
    """When the module changed: by the host's own clock where it says so, else when the worker ended."""
    facts = node.facts
    if facts and facts.last_id == record.id and facts.last_at:
        return seconds(facts.last_at)
    ended = [pod.finished_at for pod in scene.workers(node.name, record.id) if pod.finished]
    return max([*ended, seconds(record.since)])


def _cordon_lost(scene: Scene, node: NodeView, record: Record) -> Next | None:
    """S2: without our cordon there is no permit and no claim."""
    match node.cordon:
        case CordonOwner.OURS:
            return None
        case CordonOwner.NOBODY:
            return _failed(scene, node, record, Reason.HUMAN_UNCORDON, "uncordoned before the claim")
        case CordonOwner.FOREIGN:
            return _failed(scene, node, record, Reason.EXTERNAL_CORDON, "somebody else owns the cordon now")


def _failed(scene: Scene, node: NodeView, record: Record, reason: Reason | str, message: str) -> Next:
    """Row 9 before the claim, remembered as a failure: slot returned, retried with back-off."""
    history = retry.failed(
        node,
        scene.world.settings,
        plan=record.plan,
        from_=record.from_,
        to=record.to,
        result=Result.REFUSED,
        reason=reason,
        now=scene.now,
    )
    write = transaction.release(node, record, history, reason)
    return Next(state=NodeState.UNCORDONING, reason=_known(reason), message=message, actions=(write,))


def _given_up(node: NodeView, record: Record, reason: Reason, message: str) -> Next:
    """Row 9 before the claim because people or git want something else: nothing failed."""
    write = transaction.release(node, record, node.history, reason)
    return Next(state=NodeState.UNCORDONING, reason=reason, message=message, actions=(write,))


def _known(reason: Reason | str) -> Reason:
    try:
        return Reason(reason)
    except ValueError:
        return Reason.VERDICT_LOST
