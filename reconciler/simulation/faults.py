"""Faults: what may go wrong between an operator and the server, by chance. All rates are 0 unless a scenario says so."""

from dataclasses import dataclass, field, replace
from random import Random

from reconciler.core.actions import Action, Outcome, Verb, WriteStatus

EVICTION_ERROR = Outcome(verb=Verb.REFUSED, code=500, message="etcdserver: request timed out")


@dataclass(slots=True, kw_only=True)
class Faults:
    """Rates between 0 and 1, one draw for each act.

    Attributes:
        refused: the request never arrived, and no answer.
        unanswered: it was carried out, and no answer.
        crash: the process dies before or after the request.
        lag: a node's newest state has not arrived yet.
        evictions: an eviction ends in an error 500 that passes.
    """

    random: Random = field(default_factory=lambda: Random(0))
    refused: float = 0.0
    unanswered: float = 0.0
    crash: float = 0.0
    lag: float = 0.0
    evictions: float = 0.0

    def rough(self) -> "Faults":
        """Everything that can go wrong does, now and then."""
        return replace(self, refused=0.04, unanswered=0.04, crash=0.01, lag=0.3, evictions=0.1)

    def calm(self) -> "Faults":
        return Faults(random=self.random)

    def fate(self, action: Action) -> str:
        """What becomes of one act: "" (nothing special), `refused`, `unanswered`, `crash before`, `crash after`."""
        if isinstance(action, WriteStatus):
            return ""
        draw = self.random.random()
        for rate, fate in (
            (self.refused, "refused"),
            (self.unanswered, "unanswered"),
            (self.crash / 2, "crash before"),
            (self.crash / 2, "crash after"),
        ):
            if draw < rate:
                return fate
            draw -= rate
        return ""

    def lags(self) -> bool:
        return bool(self.lag) and self.random.random() < self.lag

    def eviction(self) -> Outcome | None:
        return EVICTION_ERROR if self.evictions and self.random.random() < self.evictions else None

    def grace_s(self) -> float:
        return self.random.uniform(1.0, 8.0)
