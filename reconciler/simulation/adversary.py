"""Adversary: strikes a simulated cluster by chance, then calms down; the same seed strikes the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from reconciler.core.world import CordonOwner, PolicyView
from reconciler.simulation.play import Play
from reconciler.simulation.server import HUMAN
from schema.clock import format_rfc3339
from schema.names import ANNOTATION_HOLD, ANNOTATION_KEEP_CORDONED, ANNOTATION_RETRY, LABEL_SKIP
from schema.states import Reason


@dataclass(slots=True)
class Adversary:
    """Strikes `play` every few seconds of virtual time while `active`.

    Attributes:
        variants: ttdps to edit back and forth; each list is one ttdp's forms, of which the first is final.
        vanishing: nodes may vanish for good.
    """

    play: Play
    random: Random
    variants: list[list[PolicyView]] = field(default_factory=list)
    vanishing: bool = False
    pause_s: float = 3.0
    active: bool = True
    strikes: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Rough weather for every operator, and the first strike."""
        for process in self.play.operators:
            process.cluster.faults = process.cluster.faults.rough()
        self._next()

    def calm(self) -> None:
        """Everything that people and chance have left behind is taken away again."""
        self.active = False
        for process in self.play.operators:
            process.cluster.faults = process.cluster.faults.calm()
        for machine in self.play.machines.values():
            machine.host_holders = 0
            machine.faults.clear()
        for node in tuple(self.play.server.nodes.values()):
            self._free(node.name)
        for forms in self.variants:
            self.play.server.apply(forms[0])

    def retry(self) -> None:
        """`ttfleet retry` on every node."""
        at = format_rfc3339(self.play.agenda.now)
        for node in tuple(self.play.server.nodes.values()):
            self._annotate(node.name, ANNOTATION_RETRY, at)

    def _next(self) -> None:
        if self.active:
            self.play.agenda.after(self.random.uniform(0.1, 2 * self.pause_s), self._strike)

    def _strike(self) -> None:
        if not self.active:
            return
        names = sorted(self.play.server.nodes)
        busy = [name for name in names if self.play.server.nodes[name].record is not None]
        node = self.random.choice(busy if busy and self.random.random() < 0.7 else names)
        strike = self.random.choice(self._strikes())
        self.strikes[strike.__name__] = self.strikes.get(strike.__name__, 0) + 1
        strike(node)
        self._next()

    def _strikes(self) -> list[Callable[[str], None]]:
        always: list[Callable[[str], None]] = [
            self.reboot,
            self.kill,
            self.duplicate,
            self.cordon,
            self.uncordon,
            self.skip,
            self.hold,
            self.keep_cordoned,
            self.fail_stage,
            self.fail_insmod,
            self.hold_device,
            self.edit,
            *[self.free] * 8,  # most of the time, people clean up after themselves
        ]
        return [*always, self.vanish] if self.vanishing else always

    def reboot(self, node: str) -> None:
        self.play.machines[node].reboot()

    def kill(self, node: str) -> None:
        for run in tuple(self.play.machines[node].runs):
            self.play.machines[node].kill(run)

    def duplicate(self, node: str) -> None:
        """Any worker pod of this node starts once more, whatever has become of it."""
        machine, server = self.play.machines[node], self.play.server
        orders = [(pod, server.targets[uid]) for uid, pod in server.pods.items() if uid in server.targets]
        workers = [(pod, order) for pod, order in orders if order.txn_id and pod.node == node]
        if workers and machine.up:
            machine.begin(*self.random.choice(workers))

    def cordon(self, node: str) -> None:
        self.play.server.cordon(node, HUMAN)

    def uncordon(self, node: str) -> None:
        self.play.server.uncordon(node, HUMAN)

    def skip(self, node: str) -> None:
        view = self.play.server.nodes[node]
        self.play.server.touch(node, HUMAN, labels={**view.labels, LABEL_SKIP: ""})

    def hold(self, node: str) -> None:
        self._annotate(node, ANNOTATION_HOLD, "adversary: because")

    def keep_cordoned(self, node: str) -> None:
        if self.play.server.nodes[node].record is not None:
            self._annotate(node, ANNOTATION_KEEP_CORDONED, "adversary")

    def fail_stage(self, node: str) -> None:
        self.play.machines[node].faults["stage"] = Reason.BUILD_FAILED

    def fail_insmod(self, node: str) -> None:
        machine = self.play.machines[node]
        machine.faults["insmod"] = Reason.LOAD_FAILED
        if self.random.random() < 0.3:
            machine.faults["fallback"] = Reason.LOAD_FAILED

    def hold_device(self, node: str) -> None:
        self.play.machines[node].host_holders = 1

    def free(self, node: str) -> None:
        self.play.machines[node].host_holders = 0
        self._free(node)

    def edit(self, node: str) -> None:
        del node
        if self.variants:
            self.play.server.apply(self.random.choice(self.random.choice(self.variants)))

    def vanish(self, node: str) -> None:
        if len(self.play.server.nodes) > 2 and self.random.random() < 0.2:
            self.play.vanish(node)

    def _annotate(self, node: str, key: str, value: str) -> None:
        view = self.play.server.nodes[node]
        self.play.server.touch(node, HUMAN, annotations={**view.annotations, key: value})

    def _free(self, node: str) -> None:
        """People take back what they have put on a node, their own cordon included."""
        view = self.play.server.nodes[node]
        ours = {ANNOTATION_HOLD, ANNOTATION_KEEP_CORDONED}
        kept = view.cordon is CordonOwner.OURS and view.record is None  # left cordoned on a human's word
        labels = {key: value for key, value in view.labels.items() if key != LABEL_SKIP}
        annotations = {key: value for key, value in view.annotations.items() if key not in ours}
        if view.cordon is CordonOwner.FOREIGN or kept:
            self.play.server.uncordon(node, HUMAN)
        self.play.server.touch(node, HUMAN, labels=labels, annotations=annotations)
