"""Modelled machines: kernel, kubelet, keeper and builder of one node, step by step in virtual time.

The builder's part of docs/node-transaction.md (rows 7 and 8) and of the swap procedure: each step is a call of its own,
so that a kill, a reboot or another write may fall between any two.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from reconciler.core.actions import CreatePod
from reconciler.core.world import CordonOwner, PodRole, PodView
from reconciler.simulation.server import BUILDER, KUBELET, Server
from schema.clock import format_rfc3339
from schema.facts import HostFacts, HostMode, Loaded, Staged
from schema.names import LABEL_INSTALL_MODE, LABEL_KMD_VERSION
from schema.states import Reason
from schema.transaction import Claim, ClaimState, Phase, Result
from schema.verdict import Verdict

BOOT_S: Final = 40.0  # from the reboot until the kubelet reports again
REFCNT_WAIT_S: Final = 20.0
KERNEL: Final = "6.12.0-1-amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """An open entry: which transaction unloads what for what."""

    txn: str
    target: Staged
    fallback: Staged | None
    unloaded_at: float


@dataclass(slots=True, eq=False)
class Run:
    """One process of a builder pod."""

    pod: PodView
    order: CreatePod
    waited_s: float = 0.0
    alive: bool = True
    outage_s: float | None = None
    result: Result = Result.OK
    reason: Reason | None = None


@dataclass(slots=True, kw_only=True)
class Machine:
    """One machine and everything of ours that runs on it.

    Attributes:
        faults: verb (`stage`, `insmod`, `fallback`) -> reason with which it fails next, once.
        unloading: called right before each rmmod, for those who judge.
    """

    name: str
    server: Server
    random: Random
    boot: int = 0
    mode: HostMode = HostMode.CONTAINER
    loaded: Staged | None = None
    active: Staged | None = None
    staged: dict[tuple[str, str | None], Staged] = field(default_factory=dict)
    journal: Journal | None = None
    closed: dict[str, Claim] = field(default_factory=dict)
    last: tuple[str, float] | None = None
    lock: Run | None = None
    runs: list[Run] = field(default_factory=list)
    up: bool = True
    host_holders: int = 0
    faults: dict[str, Reason] = field(default_factory=dict)
    unloading: list[Callable[["Machine", Run], None]] = field(default_factory=list)

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boot}"

    @property
    def refcnt(self) -> int:
        """Open devices: running workload pods that use it, and processes of the host."""
        pods = (
            p
            for p in self.server.pods.values()
            if p.node == self.name and p.role is PodRole.WORKLOAD and p.uses_device
        )
        return self.host_holders + sum(1 for pod in pods if not pod.finished and pod.phase == "Running")

    # --- facts --------------------------------------------------------------------------------------------

    def facts(self) -> HostFacts:
        return HostFacts(
            boot_id=self.boot_id,
            kernel=KERNEL,
            build_id="b1",
            mode=HostMode.TRANSITIONING if self.journal else self.mode,
            loaded=Loaded(version=self.loaded.version, srcversion=self.loaded.srcversion)
            if self.loaded
            else None,
            active=self.active,
            staged=tuple(sorted(self.staged.values(), key=lambda s: (s.version, s.commit or ""))),
            open_verb="swap" if self.journal else None,
            last_id=self.last[0] if self.last else None,
            last_at=format_rfc3339(self.last[1]) if self.last else None,
        )

    def report(self) -> None:
        """Write facts and labels, if they differ from what the node says."""
        node = self.server.nodes.get(self.name)
        facts = self.facts()
        if node is None or node.facts == facts:
            return
        labels = {**node.labels, LABEL_INSTALL_MODE: "host" if self.mode is HostMode.HOST else "container"}
        labels.pop(LABEL_KMD_VERSION, None)
        if self.loaded:
            labels[LABEL_KMD_VERSION] = self.loaded.version
        self.server.touch(self.name, BUILDER, facts=facts, labels=labels)

    def keep(self) -> None:
        """The keeper: load what active.json names, recover an open journal entry, report."""
        if not self.up or self.lock is not None:
            return
        if self.journal is not None:
            self._recover(self.journal)
        if self.loaded is None and self.active is not None:
            self.loaded = self.active
        self.report()

    def _recover(self, entry: Journal) -> None:
        """What the keeper does with an open entry: the target if it loads, else what was there before."""
        self.loaded = self.loaded or entry.target
        self.active = self.loaded
        result = Result.OK if self.loaded == entry.target else Result.ROLLED_BACK
        self._close(entry, result, None if result is Result.OK else Reason.REBOOTED)

    def _close(self, entry: Journal, result: Result, reason: Reason | None) -> None:
        now = self.server.agenda.now
        outage_s = round(now - entry.unloaded_at, 3)
        reason_text = str(reason) if reason else None
        self.closed[entry.txn] = Claim(
            id=entry.txn, state=ClaimState.DONE, result=result, reason=reason_text, outage_s=outage_s
        )
        self.last = (entry.txn, now)
        self.journal = None

    # --- the kubelet --------------------------------------------------------------------------------------

    def start(self, pod: PodView) -> None:
        """A pod of ours was bound to this node."""
        self._later(self.random.uniform(0.5, 1.5), lambda: self._run(pod.uid))

    def _run(self, uid: str) -> None:
        pod, order = self.server.pods.get(uid), self.server.targets.get(uid)
        if pod is None or order is None or not self.up or pod.phase != "Pending":
            return
        self.server.set_pod(uid, phase="Running", ready=True)
        self.begin(pod, order)

    def begin(self, pod: PodView, order: CreatePod) -> Run:
        """Start the builder; called a second time for one pod, it is a duplicate."""
        run = Run(pod=pod, order=order)
        self.runs.append(run)
        if order.role is PodRole.STAGE:
            self._step(run, self.random.uniform(20, 60), self._stage)
        else:
            self._step(run, 0.1, self._lock)
        return run

    def kill(self, run: Run) -> None:
        """SIGKILL: no verdict; the lock is free, the journal stays open."""
        self._end(run, None)

    def reboot(self) -> None:
        """Power cycle: processes, module and lock are gone; the kubelet is silent for a while."""
        for run in tuple(self.runs):
            run.alive = False
        self.runs.clear()
        self.lock = None
        self.loaded = None
        self.boot += 1
        self.up = False
        self.server.touch(self.name, KUBELET, ready=False, ready_since=self.server.agenda.now)
        boot = self.boot
        self.server.agenda.after(BOOT_S, lambda: self._booted(boot))

    def _booted(self, boot: int) -> None:
        if boot != self.boot:
            return
        self.up = True
        now = self.server.agenda.now
        self.server.touch(self.name, KUBELET, ready=True, ready_since=now, boot_id=self.boot_id)
        for pod in tuple(self.server.pods.values()):
            if pod.node == self.name and pod.role in {PodRole.STAGE, PodRole.SWAP} and not pod.finished:
                self.server.set_pod(pod.uid, phase="Failed", ready=False, finished_at=now)
        self.server.agenda.after(2.0, self.keep)

    # --- stage --------------------------------------------------------------------------------------------

    def _stage(self, run: Run) -> None:
        target = run.order.target
        reason = self.faults.pop("stage", None)
        if reason is not None:
            self._end(run, Verdict(verb="stage", result=Result.FAILED, changed=False, reason=str(reason)))
            return
        entry = module(target.version or "", target.commit)
        self.staged[entry.version, entry.commit] = entry
        self.report()
        self._end(run, Verdict(verb="stage", result=Result.OK, changed=True, version=entry.version))

    # --- swap ---------------------------------------------------------------------------------------------

    def _lock(self, run: Run) -> None:
        """The host lock, then the permit's boot (row 7)."""
        if self.lock is not None:
            self._step(run, 1.0, self._lock)
            return
        self.lock = run
        if run.order.boot_id != self.boot_id:
            self._refuse(run, Reason.PERMIT_VOID, "another boot")
            return
        self._step(run, 0.05, self._claim)

    def _claim(self, run: Run) -> None:
        """Refcount, live read and claim (row 7)."""
        txn = run.order.txn_id
        if txn in self.closed:
            self._replay(run, self.closed[txn])
            return
        resumes = self.journal is not None and self.journal.txn == txn
        if not resumes and self.refcnt > 0:
            run.waited_s += 1.0
            if run.waited_s >= REFCNT_WAIT_S:
                self._refuse(run, Reason.DEVICE_IN_USE, f"refcnt {self.refcnt}")
            else:
                self._step(run, 1.0, self._claim)
            return
        node = self.server.nodes.get(self.name)
        record = node.record if node else None
        permitted = record is not None and record.phase is Phase.PERMITTED and record.id == txn
        if node is None or record is None or not permitted or record.boot_id != self.boot_id:
            self._refuse(run, Reason.PERMIT_VOID, "no permit")
            return
        if node.claim == Claim(id=txn, state=ClaimState.BEGUN):
            self._step(run, 0.05, self._unload)
            return
        if node.cordon is not CordonOwner.OURS or node.claim is not None:
            self._refuse(
                run, Reason.PERMIT_VOID, "the cordon is not ours" if node.claim is None else "claimed"
            )
            return
        version = node.resource_version
        self._step(run, 0.05, lambda run: self._claimed(run, version))

    def _claimed(self, run: Run, version: str) -> None:
        """The compare-and-swap of row 7: from here on there is no way back."""
        if self.server.nodes[self.name].resource_version != version:
            self._step(run, 0.05, self._claim)
            return
        claim = Claim(id=run.order.txn_id, state=ClaimState.BEGUN)
        self.server.touch(self.name, BUILDER, claim=claim)
        self._step(run, 0.1, self._unload)

    def _unload(self, run: Run) -> None:
        if self.refcnt > 0:  # the kernel itself refuses
            run.result, run.reason = Result.FAILED, Reason.UNLOAD_FAILED
            self._verdict(run)
            return
        for judge in self.unloading:
            judge(self, run)
        target = self.staged.get((run.order.target.version or "", run.order.target.commit))
        if target is None:
            run.result, run.reason = Result.FAILED, Reason.PREFLIGHT_FAILED
            self._verdict(run)
            return
        if self.journal is None:
            now = self.server.agenda.now
            self.journal = Journal(txn=run.order.txn_id, target=target, fallback=self.loaded, unloaded_at=now)
        self.loaded = None
        self._step(run, self.random.uniform(0.8, 2.5), self._load)

    def _load(self, run: Run) -> None:
        entry = self.journal
        assert entry is not None
        reason = self.faults.pop("insmod", None)
        if reason is None:
            self.loaded = entry.target
        elif self.faults.pop("fallback", None) or entry.fallback is None:
            run.result, run.reason = Result.REBOOT_REQUIRED, Reason.REBOOT_REQUIRED
        else:
            self.loaded = entry.fallback
            run.result, run.reason = Result.ROLLED_BACK, reason
        self.active = self.loaded or self.active
        self._close(entry, run.result, run.reason)
        self._step(run, 0.1, self._verdict)

    def _verdict(self, run: Run) -> None:
        """Row 8: facts, then the claim is done."""
        txn = run.order.txn_id
        done = self.closed.get(txn) or Claim(
            id=txn, state=ClaimState.DONE, result=run.result, reason=str(run.reason) if run.reason else None
        )
        self._replay(run, done)

    def _replay(self, run: Run, done: Claim) -> None:
        """Answer; a permit that was renewed after a reboot is claimed first, as every answer needs a claim."""
        self.report()
        begun = Claim(id=done.id, state=ClaimState.BEGUN)
        if self._permits(done.id):
            self.server.touch(self.name, BUILDER, claim=begun)
        node = self.server.nodes.get(self.name)
        if node is not None and node.record is not None and node.claim == begun and node.record.id == done.id:
            self.server.touch(self.name, BUILDER, claim=done)
        result = done.result or Result.FAILED
        verdict = Verdict(
            verb="swap",
            result=result,
            changed=result is not Result.FAILED,
            id=done.id,
            reason=done.reason,
            outage_s=done.outage_s,
        )
        self._end(run, verdict)

    def _permits(self, txn: str) -> bool:
        """An unclaimed permit of this boot under a cordon of ours."""
        node = self.server.nodes.get(self.name)
        record = node.record if node else None
        if node is None or record is None or node.claim is not None or node.cordon is not CordonOwner.OURS:
            return False
        return record.phase is Phase.PERMITTED and record.id == txn and record.boot_id == self.boot_id

    def _refuse(self, run: Run, reason: Reason, message: str) -> None:
        verdict = Verdict(
            verb="swap",
            result=Result.REFUSED,
            changed=False,
            id=run.order.txn_id,
            reason=str(reason),
            message=message,
        )
        self._end(run, verdict)

    # --- processes ----------------------------------------------------------------------------------------

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        boot = self.boot
        self.server.agenda.after(delay_s, lambda: call() if boot == self.boot else None)

    def _step(self, run: Run, delay_s: float, then: Callable[[Run], None]) -> None:
        self.server.agenda.after(delay_s, lambda: then(run) if run.alive else None)

    def _end(self, run: Run, verdict: Verdict | None) -> None:
        run.alive = False
        if run in self.runs:
            self.runs.remove(run)
        if self.lock is run:
            self.lock = None
        phase = "Succeeded" if verdict and verdict.result is Result.OK else "Failed"
        now = self.server.agenda.now
        pod = self.server.pods.get(run.pod.uid)
        if pod is not None and not pod.finished:
            self.server.set_pod(pod.uid, phase=phase, ready=False, finished_at=now, verdict=verdict)
        if self.journal is not None and verdict is None:
            self._later(5.0, self.keep)


def module(version: str, commit: str | None = None) -> Staged:
    """A verified `.ko`; one source is one srcversion."""
    text = f"{version}-{(commit or '')[:6]}"
    return Staged(version=version, kernel=KERNEL, build_id="b1", srcversion=text, sha256="", commit=commit)
