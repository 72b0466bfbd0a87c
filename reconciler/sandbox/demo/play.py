"""The play: commit 1 adopts, commit 2 upgrades canary first, `git revert` brings the earlier version back."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reconciler.sandbox import audit
from reconciler.sandbox.demo.board import POLICIES, Board, Row, look
from reconciler.sandbox.demo.cast import OPERATOR, RECONCILER, SYNC, Cast
from reconciler.sandbox.errors import SandboxTimeoutError

CHANNEL: Final = "stable"
OLD: Final = "2.7.0"
NEW: Final = "2.8.0"
CANARY: Final = "canary"
ACT_BOUND_S: Final = 180.0
LOOK_S: Final = 0.5

Show = Callable[[str, Board], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One commit and what came of it.

    Attributes:
        took_s: from the push until everything had settled.
        before: node -> version that its machine had loaded when the commit was pushed.
        after: the board's rows by node.
        loads: node -> how often a module was loaded on its machine meanwhile, whoever did it; only nodes with any.
        cordoned: nodes that were cordoned meanwhile, in the order in which that was committed.
        most_unavailable: at once, from the API server's audit log.
    """

    title: str
    revision: str
    took_s: float
    before: dict[str, str]
    after: dict[str, Row]
    loads: dict[str, int]
    cordoned: tuple[str, ...]
    most_unavailable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All acts, and every promise that was not kept (none: the demo is a success)."""

    acts: tuple[Act, ...]
    budget: int
    broken: tuple[str, ...]

    @property
    def most_unavailable(self) -> int:
        return max(act.most_unavailable for act in self.acts)


async def play(cast: Cast, show: Show) -> Verdict:
    """Play all three acts.

    Raises:
        SandboxError: a process ended.
        SandboxTimeoutError: an act did not settle within `ACT_BOUND_S`.
    """
    repository = cast.repository
    cast.start(OPERATOR)
    cast.start(RECONCILER)
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("commit 1 adopts what is there", lambda: repository.commit("Adopt the fleet at 2.7.0")),
        (
            f"commit 2 moves channel {CHANNEL} to {NEW}",
            lambda: repository.move_channel(CHANNEL, NEW, f"Move {CHANNEL} to {NEW}"),
        ),
        ("git revert brings 2.7.0 back", repository.revert),
    )
    acts = [await act(cast, title, commit, show) for title, commit in steps]
    budget = await _budget(cast)
    return Verdict(acts=tuple(acts), budget=budget, broken=tuple(broken(acts, budget)))


async def act(cast: Cast, title: str, commit: Callable[[], str], show: Show) -> Act:
    """Push one commit and watch until everything has settled.

    Raises:
        SandboxError: a process ended.
        SandboxTimeoutError: it did not settle within `ACT_BOUND_S`.
    """
    machines = cast.hosts
    before = {node: machine.loaded_version or "" for node, machine in machines.items()}
    loads = {node: machine.loads for node, machine in machines.items()}
    begun, since = time.monotonic(), time.time()
    revision = await asyncio.to_thread(commit)
    after = await _settle(cast, f"{title} ({revision[:7]})", revision, show)
    log = cast.plane.audit_log
    intervals = [(one.begin, node) for node, found in audit.cordons(log).items() for one in found]
    return Act(
        title=title,
        revision=revision,
        took_s=time.monotonic() - begun,
        before=before,
        after={row.node: row for row in after.rows},
        loads={node: more for node, machine in machines.items() if (more := machine.loads - loads[node])},
        cordoned=tuple(node for begin, node in sorted(intervals) if begin >= since),
        most_unavailable=audit.most_unavailable(log, since),
    )


async def _settle(cast: Cast, title: str, revision: str, show: Show) -> Board:
    deadline = time.monotonic() + ACT_BOUND_S
    while True:
        cast.check()
        board = await look(cast.kube, SYNC)
        show(title, board)
        if board.settled(revision):
            return board
        if time.monotonic() > deadline:
            waiting = "; ".join(f"{r.node} {r.state} {r.reason}" for r in board.rows if r.state != "Done")
            raise SandboxTimeoutError(
                f"{title}: not settled within {ACT_BOUND_S:.0f} s ({board.message}; {waiting}); "
                f"the logs are in {cast.directory / 'logs'}"
            )
        await asyncio.sleep(LOOK_S)


async def _budget(cast: Cast) -> int:
    """What the repository allows, as it was rendered into every ttdp."""
    answer = await cast.kube.list(POLICIES)
    budgets = [budget for policy in answer.body["items"] for budget in policy["spec"]["budgets"]]
    return min(int(budget["maxUnavailable"]) for budget in budgets)


def broken(acts: list[Act], budget: int) -> list[str]:
    """The promises of the demo that these acts do not keep, as sentences."""
    adopt, upgrade, revert = acts
    found = []
    if touched := sorted({*adopt.cordoned, *adopt.loads}):
        found.append(f"adopting touched {', '.join(touched)}")
    for act, version in ((adopt, OLD), (upgrade, NEW), (revert, OLD)):
        found += [
            f"{act.title}: {row.node} runs {row.version or 'nothing'}, not {version}"
            for row in act.after.values()
            if row.version != version
        ]
        if act.most_unavailable > budget:
            found.append(f"{act.title}: {act.most_unavailable} nodes unavailable at once, budget {budget}")
    canaries = {row.node for row in upgrade.after.values() if row.wave == CANARY}
    if not canaries or set(upgrade.cordoned[: len(canaries)]) != canaries:
        found.append(f"the canary {', '.join(sorted(canaries))} was not first: {', '.join(upgrade.cordoned)}")
    return found
