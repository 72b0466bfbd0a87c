"""Space: the states of the proof and their successors.

A state is a flat tuple of small integers: counters left, version wanted, write on the wire, two operators, and for each
node its Node object, machine and worker pods. The two operators are interchangeable, so they are kept in order.
"""

from collections.abc import Iterator

from reconciler.core.actions import Step as Row
from reconciler.core.actions import Verb
from reconciler.core.world import CordonOwner
from reconciler.simulation.minds import (
    VERSIONS,
    Deed,
    Write,
    applied,
    key_of,
)
from reconciler.simulation.model import Host, Node, Pod, State, Violation
from reconciler.simulation.numbered import NOTHING, Numbers, Op, Step, Todo, View
from schema.transaction import History, Phase, Result

LEFT, WANTED, WIRE, OPS, FIRST_NODE = 0, 1, 2, 3, 5  # places in a state
Successor = tuple[tuple[object, ...], State]


class Space(Numbers):
    """All that one configuration can do."""

    def start(self) -> State:
        wire = self.wires.of(None)
        assert wire == NOTHING
        machine = (self.nodes.of(Node()), self.hosts.of(Host()), self.pods.of(()))
        idle = self.ops.of((self.fresh, (), machine[:1] * self.setup.nodes if self.setup.lag else ()))
        return (self.left.of(self.setup.limits), 0, wire, idle, idle, *machine * self.setup.nodes)

    # --- successors ---------------------------------------------------------------------------------------

    def successors(self, s: State) -> Iterator[Successor]:
        """Every next state; raises Violation where a step breaks a property."""
        for index in (0, 1):
            if index == 0 or s[OPS] != s[OPS + 1]:
                yield from self._operator(s, index)
        if s[WIRE] != NOTHING:
            yield from self._wire(s)
        for n in range(self.setup.nodes):
            yield from self._machine(s, n)
        left = self._spend(s[LEFT], "edits")
        if left >= 0:
            yield ("edit",), (left, 1 - s[WANTED], *s[2:])

    def _operator(self, s: State, index: int) -> Iterator[Successor]:
        op = term, todo, view = self.ops.values[s[OPS + index]]
        if not todo:
            yield from self._decides(s, index, op)
        for place, (deed, valid) in enumerate(todo):
            rest = (term, todo[:place] + todo[place + 1 :], view)
            yield ("acts", index, deed, valid), self.act(s, index, rest, deed, valid)
            yield from self._lost(s, index, rest, deed, valid)
        for n, known in enumerate(view):
            if known != s[FIRST_NODE + 3 * n]:
                yield ("sees", index, n), self.with_op(s, index, (term, todo, self.updated(s, view, n)))
        if todo or term != self.fresh:
            left = self._spend(s[LEFT], "crashes")
            if left >= 0:
                yield ("crash", index), self.with_op(s, index, self.reborn(s), left)

    def _decides(self, s: State, index: int, op: Op) -> Iterator[Successor]:
        term, _, view = op
        for late, decided in enumerate(self.decisions(s, op)):
            choice = self._within(decided)
            takes = choice and self.deeds.values[choice[0][0]].does == "take"
            left = self._spend(s[LEFT], "takes") if takes else s[LEFT]
            label = ("decides", index, late, choice)
            if choice and left >= 0:
                yield label, self.with_op(s, index, (term, choice, view), left)
            if takes and len(choice) > 1:
                yield label, self.with_op(s, index, (term, choice[1:], view))

    def reborn(self, s: State) -> Op:
        """An operator process that has just started: it remembers nothing and has listed everything."""
        return self.fresh, (), (s[FIRST_NODE::3] if self.setup.lag else ())

    def updated(self, s: State, view: View, n: int) -> View:
        """A watch event or an answer has told an operator about node n."""
        return (*view[:n], s[FIRST_NODE + 3 * n], *view[n + 1 :])

    def _lost(self, s: State, index: int, rest: Op, deed: int, valid: bool) -> Iterator[Successor]:
        """The write goes out and no answer comes, or the process dies right after sending it."""
        if s[WIRE] != NOTHING or self.deeds.values[deed].does == "scan":
            return
        sent = (s[LEFT], s[WANTED], self.wires.of((deed, valid)), *s[OPS:])
        left = self._spend(s[LEFT], "losses")
        if left >= 0:
            unknown = self._absorb(rest[0], deed, Verb.UNKNOWN)
            yield ("sends", index, deed), self.with_op(sent, index, (unknown, *rest[1:]), left)
        left = self._spend(s[LEFT], "crashes")
        if left >= 0:
            yield ("sends and crashes", index, deed), self.with_op(sent, index, self.reborn(s), left)

    def _wire(self, s: State) -> Iterator[Successor]:
        found = self.wires.values[s[WIRE]]
        assert found is not None
        deed, valid = found
        free = (s[LEFT], s[WANTED], NOTHING, *s[OPS:])
        yield ("lost on the wire", deed), free
        after, taken = self._do(free, deed, valid)
        if taken:
            yield ("arrives", deed), self._ordered(after)

    def _machine(self, s: State, n: int) -> Iterator[Successor]:
        at = FIRST_NODE + 3 * n
        for step in self.steps(s[at], s[at + 1], s[at + 2]):
            left = self._spend(s[LEFT], step.limit) if step.limit else s[LEFT]
            if left >= 0:
                yield (step.label, n), self.moved(s, n, step, left)

    def moved(self, s: State, n: int, step: Step, left: int) -> State:
        """A machine made a step; where it wrote its Node, what others know of it is stale."""
        at = FIRST_NODE + 3 * n
        if not step.wrote:
            return (left, *s[1:at], step.node, step.host, step.pods, *s[at + 3 :])
        host = self._reread(step.host)
        head = (
            left,
            s[WANTED],
            self._wire_node(s[WIRE], n),
            self._stale(s[OPS], n),
            self._stale(s[OPS + 1], n),
        )
        return self._ordered((*head, *s[FIRST_NODE:at], step.node, host, step.pods, *s[at + 3 :]))

    def _within(self, todo: Todo) -> Todo:
        """Without what lies beyond the configuration: the search ends there, not the product."""
        found = self._inside.get(todo)
        if found is None:
            found = self._inside[todo] = tuple(
                (d, v) for d, v in todo if not self._beyond(self.deeds.values[d])
            )
        return found

    def _beyond(self, deed: Deed) -> bool:
        does = deed.does
        if isinstance(does, Pod):
            return does.attempt > self.setup.workers
        history = does.history if isinstance(does, Write) and does.step is Row.RESERVE else None
        return isinstance(history, History) and history.serial > self.setup.serials

    # --- what operators do --------------------------------------------------------------------------------

    def decisions(self, s: State, op: Op) -> tuple[Todo, ...]:
        """What an operator may decide now: soon after everything that is stored or a day later, in any order."""
        term, _, view = op
        found = self._decisions(s, term, view or s[FIRST_NODE::3])
        if not view or view == s[FIRST_NODE::3]:
            return found
        return tuple(tuple((d, v and not self._overtaken(s, d, view)) for d, v in todo) for todo in found)

    def _overtaken(self, s: State, deed: int, view: View) -> bool:
        """The write carries the version of a state that is no longer the node's; row 4 carries that of row 2."""
        does = self.deeds.values[deed].does
        if not isinstance(does, Write) or does.step is Row.CORDON:
            return False
        return view[does.node] != s[FIRST_NODE + 3 * does.node]

    def _decisions(self, s: State, term: int, known: tuple[int, ...]) -> tuple[Todo, ...]:
        key = (term, s[WANTED], *known, *s[FIRST_NODE + 2 :: 3])
        found = self._decided.get(key)
        if found is None:
            nodes = tuple(self.nodes.values[i] for i in known)
            pods = tuple(self.pods.values[i] for i in s[FIRST_NODE + 2 :: 3])
            wanted = VERSIONS[s[WANTED]]
            made = [
                self._decide(term, wanted, nodes, pods, late=late, last=last)
                for late in (False, True)
                for last in range(self.setup.nodes)
            ]
            found = self._decided[key] = tuple(dict.fromkeys(made))
        return found

    def _decide(
        self,
        term: int,
        wanted: str,
        nodes: tuple[Node, ...],
        pods: tuple[tuple[Pod, ...], ...],
        *,
        late: bool,
        last: int,
    ) -> Todo:
        wants = self.mind.decide(self.terms.values[term], wanted, nodes, pods, late=late, last=last)
        numbered = ((self.deeds.of(deed, key_of(deed)), valid) for deed, valid in wants)
        return tuple(dict.fromkeys(numbered))

    def act(self, s: State, index: int, rest: Op, deed: int, valid: bool) -> State:
        """One act of an operator with the server's answer; `rest` is the operator without that act."""
        does = self.deeds.values[deed].does
        if does == "scan":
            nodes = tuple(self.nodes.values[i] for i in s[FIRST_NODE::3])
            foreign = self.mind.foreign(self.terms.values[rest[0]], nodes)
            known = self._absorb(rest[0], deed, Verb.DONE, foreign)
            return self.with_op(s, index, (known, rest[1], s[FIRST_NODE::3] if rest[2] else ()))
        before = self._replaced(s, OPS + index, self.ops.of(rest))
        after, taken = self._do(before, deed, valid)
        term, todo, view = self.ops.values[after[OPS + index]]
        known = self._absorb(term, deed, Verb.DONE if taken else Verb.CONFLICT)
        if view and taken and isinstance(does, Write):
            view = self.updated(after, view, does.node)
        return self.with_op(after, index, (known, todo, view))

    def _do(self, s: State, deed: int, valid: bool) -> tuple[State, bool]:
        """The server's part: (state, whether it was taken)."""
        what = self.deeds.values[deed]
        if isinstance(what.does, Write):
            if not valid and self.guards.compare_and_swap:
                return s, False
            return self._write(s, deed, what.does), True
        if isinstance(what.does, Pod):
            return self._create(s, what.node, what.does), True
        if not valid:
            return s, False
        ops = (self._lease_written(s[OPS]), self._lease_written(s[OPS + 1]))
        return (s[LEFT], s[WANTED], self._wire_lease(s[WIRE]), *ops, *s[FIRST_NODE:]), True

    def _write(self, s: State, deed: int, write: Write) -> State:
        n, at = write.node, FIRST_NODE + 3 * write.node
        node = self._apply(s[at], deed, write)
        self._judge_done(self.hosts.values[s[at + 1]], write)
        pods = self._tidied(s[at + 2], node)
        head = (
            s[LEFT],
            s[WANTED],
            self._wire_node(s[WIRE], n),
            self._stale(s[OPS], n),
            self._stale(s[OPS + 1], n),
        )
        after = (*head, *s[FIRST_NODE:at], node, self._reread(s[at + 1]), pods, *s[at + 3 :])
        self.judge(after)
        return after

    def _apply(self, node: int, deed: int, write: Write) -> int:
        found = self._applied.get((node, deed))
        if found is None:
            before = self.nodes.values[node]
            foreign = before.cordon is CordonOwner.FOREIGN
            if foreign and write.cordon is False:
                raise Violation("S2 a foreign cordon is removed")
            if foreign and write.cordon is True:
                raise Violation("S2 a foreign cordon is acted on")
            found = self._applied[node, deed] = self.nodes.of(applied(before, write))
        return found

    def _create(self, s: State, n: int, pod: Pod) -> State:
        at = FIRST_NODE + 3 * n + 2
        pods = self.pods.values[s[at]]
        if any((other.txn, other.attempt) == (pod.txn, pod.attempt) for other in pods):
            return s
        return self._replaced(s, at, self.pods.of((*pods, pod)))

    @staticmethod
    def _judge_done(host: Host, write: Write) -> None:
        """A Target counts as reached only where the machine keeps it."""
        latest = write.history.latest if isinstance(write.history, History) else None
        if write.step is not Row.RELEASE or latest is None or latest.result is not Result.OK:
            return
        if host.journal or host.active != latest.to.version:
            raise Violation("Done: released as done, and the machine does not keep it")

    def judge(self, s: State) -> None:
        """S1 and S3 of a state; node writes are all that can break them."""
        busy = 0
        for i in s[FIRST_NODE::3]:
            node = self.nodes.values[i]
            worked = node.record is not None and node.record.phase is not Phase.RESERVED
            busy += worked
            if node.cordon is CordonOwner.OURS and not worked:
                raise Violation("S3 a cordon of ours without its record")
        if busy > self.setup.budget:
            raise Violation("S1 started beyond the budget")

    def with_op(self, s: State, index: int, op: Op, left: int = -1) -> State:
        """The state with one operator changed, and perhaps a strike spent."""
        made = self.ops.of(op)
        first, second = (made, s[OPS + 1]) if index == 0 else (s[OPS], made)
        return self._ordered(
            (s[LEFT] if left < 0 else left, s[WANTED], s[WIRE], first, second, *s[FIRST_NODE:])
        )

    def _replaced(self, s: State, place: int, value: int) -> State:
        return (*s[:place], value, *s[place + 1 :])

    def _ordered(self, s: State) -> State:
        if s[OPS] <= s[OPS + 1]:
            return s
        return (s[LEFT], s[WANTED], s[WIRE], s[OPS + 1], s[OPS], *s[FIRST_NODE:])
