"""Machine: what a plan needs to know of one node, whether it comes from the cluster or from an Inventory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from reconciler.core.world import CordonOwner, NodeView
from schema.facts import HostFacts
from schema.names import (
    ANNOTATION_FIRMWARE_CORDON,
    ANNOTATION_HOLD,
    LABEL_HOSTNAME,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_PRESENT,
    LABEL_SKIP,
)
from schema.states import Reason
from schema.target import Mode, Target
from schema.transaction import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node with a Tenstorrent card.

    Attributes:
        mode: who owns the module now; None when nothing is installed or nobody knows.
        version: loaded now, "" when none is.
        commit: source of the loaded module, None where it is not known.
        obstacle: what keeps the node from being worked on, apart from its wave (a Reason), "" for nothing.
        returning_to: Target that the node had when the transaction now on it began.
        had: Targets that earlier commits gave it; for plans without a cluster, where no history is known.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    mode: Mode | None = None
    version: str = ""
    commit: str | None = None
    obstacle: Reason | None = None
    history: History = field(default_factory=History)
    returning_to: Target | None = None
    had: tuple[Target, ...] = ()

    @property
    def hostname(self) -> str:
        return self.labels.get(LABEL_HOSTNAME, self.name)

    @property
    def current(self) -> Target | None:
        """What is installed, as a Target; None for nothing."""
        if self.mode is None:
            return None
        return Target(mode=self.mode, version=self.version or None, commit=self.commit)

    def was_done_at(self, target: Target) -> bool:
        """The node has held this Target before (design, section 2.8): reached it, or was at it when an attempt began."""
        entries = self.history.reached
        known = [entry.to for entry in entries] + [entry.from_ for entry in entries if entry.from_]
        known += [*self.had, *([self.returning_to] if self.returning_to else [])]
        return any(one.same_module(target) for one in known)

    def goes_back_to(self, target: Target) -> bool:
        """The node had this Target before it ever had the present one: a revert (ADR 0003).

        A second try of a Target that was taken back is no way back: it goes through the waves like the first.
        """
        if self.returning_to and self.returning_to.same_module(target):
            return True
        then = self._first_had(target)
        now = self._first_had(self.current) if self.current else None
        return then is not None and (now is None or then < now)

    def _first_had(self, target: Target) -> float | None:
        """Seconds of its history; offline, places in the commits before (negative: the further back the smaller)."""
        places = [-1.0 - place for place, one in enumerate(self.had) if one.same_module(target)]
        return min(places) if places else self.history.first_had(target)

    @classmethod
    def of_node(cls, node: NodeView) -> Self:
        facts = node.facts
        active = facts.active if facts else None
        version = _loaded(facts) or node.labels.get(LABEL_KMD_VERSION, "")
        return cls(
            name=node.name,
            labels=node.labels,
            mode=_mode(node.labels),
            version=version,
            commit=active.commit if active and active.version == version else None,
            obstacle=_obstacle(node),
            history=node.history,
            returning_to=node.record.from_ if node.record else None,
        )

    @classmethod
    def of_inventory(cls, entry: Mapping[str, Any]) -> Self:
        """One entry of an Inventory (schema/fleet/inventory.schema.json)."""
        labels = {str(key): str(value) for key, value in entry.get("labels", {}).items()}
        said = {LABEL_INSTALL_MODE: entry.get("installMode", labels.get(LABEL_INSTALL_MODE, ""))}
        unready = None if entry.get("ready", True) else Reason.NODE_NOT_READY
        return cls(
            name=entry["name"],
            labels=labels,
            mode=_mode(said),
            version=entry.get("version", labels.get(LABEL_KMD_VERSION, "")),
            commit=entry.get("commit"),
            obstacle=Reason.SKIP_LABEL if LABEL_SKIP in labels else unready,
        )

    @classmethod
    def named(cls, name: str) -> Self:
        """A node that is known by its name only."""
        return cls(name=name, labels={LABEL_HOSTNAME: name, LABEL_PRESENT: "true"})

    @property
    def has_card(self) -> bool:
        return self.labels.get(LABEL_PRESENT) == "true"


def _mode(labels: Mapping[str, str]) -> Mode | None:
    value = labels.get(LABEL_INSTALL_MODE)
    return Mode(value) if value in set(Mode) else None


def _loaded(facts: HostFacts | None) -> str:
    return facts.loaded.version if facts and facts.loaded else ""


def _obstacle(node: NodeView) -> Reason | None:
    """The first thing in the way, as the operator would name it."""
    if LABEL_SKIP in node.labels:
        return Reason.SKIP_LABEL
    if ANNOTATION_HOLD in node.annotations:
        return Reason.HELD
    if not node.ready:
        return Reason.NODE_NOT_READY
    if ANNOTATION_FIRMWARE_CORDON in node.annotations:
        return Reason.FIRMWARE_UPGRADE
    if node.cordon is CordonOwner.FOREIGN:
        return Reason.EXTERNAL_CORDON
    return None
