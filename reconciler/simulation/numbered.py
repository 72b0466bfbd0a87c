"""Numbers: the values of the proof as small integers, and what a write makes stale, worked out once for each value."""

from dataclasses import dataclass, replace
from typing import Final

from reconciler.core.actions import Verb
from reconciler.core.world import Term
from reconciler.simulation.builders import Local, moves
from reconciler.simulation.minds import (
    Deed,
    Mind,
    Write,
    node_name,
    term_key,
    without_lease_version,
    without_node_version,
)
from reconciler.simulation.model import Host, Limits, Node, Pod, Pool, Setup
from reconciler.simulation.removed import ALL, Guards

NOTHING: Final = 0  # on the wire
Todo = tuple[tuple[int, bool], ...]  # (deed, its version is current)
View = tuple[int, ...]  # Node objects as an operator knows them; empty where it always knows the newest
Op = tuple[int, Todo, View]


@dataclass(frozen=True, slots=True)
class Step:
    """A memoised step of one machine, in integers."""

    label: str
    limit: str
    node: int
    host: int
    pods: int
    wrote: bool


class Numbers:
    """Pools of everything that a state is made of. Each function of values is computed once and then looked up."""

    def __init__(self, setup: Setup, guards: Guards = ALL) -> None:
        self.setup = setup
        self.guards = guards
        self.mind = Mind(setup, guards)
        self.nodes: Pool[Node] = Pool()
        self.hosts: Pool[Host] = Pool()
        self.pods: Pool[tuple[Pod, ...]] = Pool()
        self.terms: Pool[Term] = Pool()
        self.deeds: Pool[Deed] = Pool()
        self.ops: Pool[Op] = Pool()
        self.wires: Pool[tuple[int, bool] | None] = Pool()
        self.left: Pool[Limits] = Pool()
        self._local: dict[tuple[int, int, int], tuple[Step, ...]] = {}
        self._decided: dict[tuple[int, ...], tuple[Todo, ...]] = {}
        self._spent: dict[tuple[int, str], int] = {}
        self._op_node: dict[tuple[int, int], int] = {}
        self._op_lease: dict[int, int] = {}
        self._unread: dict[int, int] = {}
        self._applied: dict[tuple[int, int], int] = {}
        self._absorbed: dict[tuple[int, int, Verb, tuple[str, ...]], int] = {}
        self._inside: dict[Todo, Todo] = {}
        self._tidy: dict[tuple[int, int], int] = {}
        self.fresh = self.terms.of(Term(identity="me"), term_key(Term(identity="me")))

    def steps(self, node: int, host: int, pods: int) -> tuple[Step, ...]:
        """What one machine may do next; memoised, because most of it never changes."""
        found = self._local.get((node, host, pods))
        if found is None:
            at = Local(self.nodes.values[node], self.hosts.values[host], self.pods.values[pods])
            made = (
                Step(
                    move.label,
                    move.limit,
                    self.nodes.of(move.after.node),
                    self.hosts.of(move.after.host),
                    self.pods.of(move.after.pods),
                    move.wrote(at),
                )
                for move in moves(at, self.guards)
                if not move.limit or getattr(self.setup.limits, move.limit)
            )
            found = self._local[node, host, pods] = tuple(made)
        return found

    def _spend(self, left: int, limit: str) -> int:
        key = (left, limit)
        found = self._spent.get(key)
        if found is None:
            limits = self.left.values[left]
            count = getattr(limits, limit)
            found = self.left.of(replace(limits, **{limit: count - 1})) if count else -1
            self._spent[key] = found
        return found

    def _absorb(self, term: int, deed: int, verb: Verb, foreign: tuple[str, ...] = ()) -> int:
        key = (term, deed, verb, foreign)
        found = self._absorbed.get(key)
        if found is None:
            after = self.mind.absorbs(self.terms.values[term], self.deeds.values[deed], verb, foreign)
            found = self._absorbed[key] = self.terms.of(after, term_key(after))
        return found

    def _stale(self, op: int, n: int) -> int:
        """An operator, once somebody has written node n."""
        found = self._op_node.get((op, n))
        if found is None:
            term, todo, view = self.ops.values[op]
            after = without_node_version(self.terms.values[term], node_name(n))
            writes = tuple((d, v and not self._is_write(d, n)) for d, v in todo)
            found = self._op_node[op, n] = self.ops.of((self.terms.of(after, term_key(after)), writes, view))
        return found

    def _lease_written(self, op: int) -> int:
        """An operator, once somebody has written the Lease."""
        found = self._op_lease.get(op)
        if found is None:
            term, todo, view = self.ops.values[op]
            after = without_lease_version(self.terms.values[term])
            writes = tuple((d, v and self.deeds.values[d].does not in ("take", "renew")) for d, v in todo)
            found = self._op_lease[op] = self.ops.of((self.terms.of(after, term_key(after)), writes, view))
        return found

    def _wire_node(self, wire: int, n: int) -> int:
        found = self.wires.values[wire]
        if found is None or not found[1] or not self._is_write(found[0], n):
            return wire
        return self.wires.of((found[0], False))

    def _wire_lease(self, wire: int) -> int:
        found = self.wires.values[wire]
        if found is None or self.deeds.values[found[0]].does not in ("take", "renew"):
            return wire
        return self.wires.of((found[0], False))

    def _is_write(self, deed: int, n: int) -> bool:
        does = self.deeds.values[deed].does
        return isinstance(does, Write) and does.node == n

    def _reread(self, host: int) -> int:
        """A machine whose Node somebody has written: what its builders have read is stale."""
        found = self._unread.get(host)
        if found is None:
            before = self.hosts.values[host]
            processes = tuple(replace(p, valid=False) if p.pc == 2 else p for p in before.processes)
            found = self._unread[host] = self.hosts.of(replace(before, processes=processes))
        return found

    def _tidied(self, pods: int, node: int) -> int:
        """Pods of transactions that are over matter only while one of them may still start a process."""
        found = self._tidy.get((pods, node))
        if found is None:
            record = self.nodes.values[node].record
            kept: dict[Pod, None] = {}
            for pod in self.pods.values[pods]:
                if (record is not None and pod.txn == record.id) or pod.state in {"created", "running"}:
                    kept[pod] = None
                elif self.setup.limits.ghosts:
                    kept[replace(pod, attempt=0, state="over")] = None
            found = self._tidy[pods, node] = self.pods.of(tuple(kept))
        return found
