"""Builders: what a machine, its kubelet, its builder processes and people near it may do next, in the proof's model.

Rows 7 and 8 of docs/node-transaction.md, each access to the server or the kernel a step of its own. S4 is judged here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.core.world import CordonOwner
from reconciler.simulation.model import Host, Node, Pod, Process, Violation
from reconciler.simulation.removed import Guards
from schema.transaction import Claim, ClaimState, Phase, Result

AT_ONCE = 2  # processes on one machine


@dataclass(frozen=True, slots=True)
class Local:
    """One machine, its Node object and its worker pods."""

    node: Node
    host: Host
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """One step. `limit` names the adversary's counter it spends, "" for a step that simply happens."""

    label: str
    after: Local
    limit: str = ""

    def wrote(self, before: Local) -> bool:
        """The step changed the Node object, so its resourceVersion."""
        return self.after.node != before.node


def moves(at: Local, guards: Guards) -> Iterator[Move]:
    """Every next step of one machine."""
    yield from _kubelet(at)
    for process in at.host.processes:
        yield from _process(at, process, guards)
        yield Move("killed", _ended(at, process, "lost"), "kills")
    yield from _people(at)
    host = at.host
    loaded = "" if host.journal else host.active  # the keeper's first pass, unless it has an entry to end
    booted = Host(boot=host.boot + 1, loaded=loaded, active=host.active, journal=host.journal)
    yield Move("reboot", replace(at, host=booted), "reboots")
    yield from _recover(at)


def _kubelet(at: Local) -> Iterator[Move]:
    node, host = at.node, at.host
    for pod in at.pods:
        if len(host.processes) >= AT_ONCE:
            break
        if pod.state == "created":
            pods = tuple(replace(p, state="running") if p is pod else p for p in at.pods)
            started = _with(at, Process(pod.txn, pod.version, pod.boot, pod.attempt))
            yield Move("start", replace(started, pods=pods))
        yield Move("ghost", _with(at, Process(pod.txn, pod.version, pod.boot, 0)), "ghosts")
    if node.boot != host.boot:
        pods = tuple(replace(p, state="lost") if p.state == "running" else p for p in at.pods)
        yield Move("boot reported", replace(at, node=replace(node, boot=host.boot), pods=pods))
    if node.facts != host.facts:
        yield Move("facts", replace(at, node=replace(node, facts=host.facts)))


def _recover(at: Local) -> Iterator[Move]:
    """The keeper ends an entry for which no permit stands, and never unloads."""
    node, host = at.node, at.host
    if host.journal is None or any(process.pc >= 1 for process in host.processes):
        return
    txn, version, boot = host.journal
    if boot == host.boot and _permitted(node, Process(txn, version, boot, 0)):
        return
    if host.loaded:  # live and not verified: only an unload ends it, or the end of its record
        if node.record is None or node.record.id != txn:
            yield Move("keeper gives up", replace(at, host=replace(host, journal=None)))
        return
    done = replace(host, loaded=version, active=version, journal=None)
    yield Move("keeper finishes", replace(at, host=done))
    yield Move(
        "keeper falls back", replace(at, host=replace(host, loaded=host.active, journal=None)), "bad_loads"
    )
    yield Move(
        "keeper loads what does not serve", replace(at, host=replace(host, loaded=version)), "bad_loads"
    )


def _people(at: Local) -> Iterator[Move]:
    node, host = at.node, at.host
    if node.cordon is CordonOwner.NOBODY:
        yield Move("human cordons", replace(at, node=replace(node, cordon=CordonOwner.FOREIGN)), "cordons")
        return
    processes = tuple(replace(p, uncordoned=True) if p.pc >= 3 else p for p in host.processes)
    after = replace(
        at, node=replace(node, cordon=CordonOwner.NOBODY), host=replace(host, processes=processes)
    )
    yield Move("human uncordons", after, "uncordons")


def _process(at: Local, process: Process, guards: Guards) -> Iterator[Move]:
    match process.pc:
        case 0:
            if not guards.locks or all(other.pc == 0 for other in at.host.processes):
                fits = process.boot == at.host.boot or not guards.boots
                yield Move("lock", _at(at, process, 1) if fits else _ended(at, process, "refused"))
        case 1:
            yield _read(at, process, guards)
        case 2:
            yield _claim(at, process, guards)
        case 3:
            _judge(at, process)
            opened = replace(at.host, journal=(process.txn, process.version, process.boot))
            yield Move("rmmod", _loaded(_at(replace(at, host=opened), process, 4), ""))
        case 4:
            _alone(at)
            yield Move("insmod", _loaded(_at(at, process, 5), process.version))
            failed = replace(process, result=Result.ROLLED_BACK)
            yield Move("insmod fails", _loaded(_at(at, process, 5, failed), at.host.active), "bad_loads")
        case 5:
            committed = replace(at.host, active=at.host.loaded, journal=None)
            yield Move("commit", _at(replace(at, host=committed), process, 6))
        case _:
            yield _verdict(at, process)


def _read(at: Local, process: Process, guards: Guards) -> Move:
    """Row 7's live GET."""
    node = at.node
    ours = node.cordon is CordonOwner.OURS
    if _permitted(node, process):
        if guards.claims and node.claim == Claim(id=process.txn, state=ClaimState.BEGUN):
            return Move("resume", _at(at, process, 3, replace(process, uncordoned=not ours)))
        if ours and (node.claim is None or node.claim.id != process.txn):
            return Move("read", _at(at, process, 2, replace(process, valid=True)))
    return Move("void", _ended(at, process, "refused"))


def _claim(at: Local, process: Process, guards: Guards) -> Move:
    """Row 7: claim begun, by compare-and-swap."""
    if not guards.claims:
        return Move("no claim", _at(at, process, 3))
    if not process.valid:
        return Move("read again", _at(at, process, 1))
    begun = replace(at.node, claim=Claim(id=process.txn, state=ClaimState.BEGUN))
    return Move("claim", replace(_at(at, process, 3), node=begun))


def _verdict(at: Local, process: Process) -> Move:
    """Row 8: facts and claim done, with the same id."""
    node = at.node
    if not _permitted(node, process) or node.claim != Claim(id=process.txn, state=ClaimState.BEGUN):
        return Move("verdict void", _ended(at, process, "lost"))
    reason = None if process.result is Result.OK else "LoadFailed"
    done = Claim(id=process.txn, state=ClaimState.DONE, result=process.result, reason=reason)
    written = replace(node, claim=done, facts=at.host.facts)
    return Move("verdict", replace(_ended(at, process, "ok"), node=written))


def _judge(at: Local, process: Process) -> None:
    """S4: unload only with a live permit, in its boot, cordoned by us (or uncordoned by a human since the claim)."""
    if not _permitted(at.node, process):
        raise Violation("S4 unload without a live permit")
    if process.boot != at.host.boot:
        raise Violation("S4 unload in another boot")
    if at.node.cordon is not CordonOwner.OURS and not process.uncordoned:
        raise Violation("S4 unload on a node that we have not cordoned")
    _alone(at)


def _alone(at: Local) -> None:
    if sum(1 for process in at.host.processes if process.pc in {3, 4, 5}) > 1:
        raise Violation("S4 two swaps on one host")


def _permitted(node: Node, process: Process) -> bool:
    record = node.record
    return (
        record is not None
        and record.phase is Phase.PERMITTED
        and record.id == process.txn
        and record.boot_id == str(process.boot)
    )


def _at(at: Local, process: Process, pc: int, changed: Process | None = None) -> Local:
    """The process one step on; what it read is valid only between reading and claiming."""
    after = replace(changed or process, pc=pc, valid=(changed or process).valid if pc == 2 else True)
    return _processes(at, tuple(after if other is process else other for other in at.host.processes))


def _with(at: Local, process: Process) -> Local:
    return _processes(at, (*at.host.processes, process))


def _ended(at: Local, process: Process, state: str) -> Local:
    """The process is gone; its pod (a ghost has none) shows how it ended."""
    rest = tuple(other for other in at.host.processes if other is not process)
    mine = (process.txn, process.pod)
    pods = tuple(
        replace(pod, state=state) if (pod.txn, pod.attempt) == mine and pod.state == "running" else pod
        for pod in at.pods
    )
    return replace(_processes(at, rest), pods=pods)


def _processes(at: Local, processes: tuple[Process, ...]) -> Local:
    ordered = tuple(sorted(processes, key=repr))
    return replace(at, host=replace(at.host, processes=ordered))


def _loaded(at: Local, loaded: str) -> Local:
    return replace(at, host=replace(at.host, loaded=loaded))
