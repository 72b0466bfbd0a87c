"""TenstorrentDriverPolicy (ttdp) as values: upstream's spec plus `mode`, `waiting`, `vacate`, `source`, `budgets`.

`PolicySpec.from_json(spec)` and `.to_json()` are inverse for every spec that the CRD admits; absent fields behave as
upstream's CRs do (design, section 2.5). schema/crds/ttdp.yaml is the served form; a test holds the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from schema.target import Mode, Vacate


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One entry of a label selector's `matchExpressions`."""

    key: str
    operator: str  # In | NotIn | Exists | DoesNotExist
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A Kubernetes LabelSelector. Empty selects every node."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        if any(labels.get(key) != value for key, value in self.match_labels):
            return False
        return all(_holds(requirement, labels) for requirement in self.match_expressions)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if self.match_labels:
            data["matchLabels"] = dict(self.match_labels)
        if self.match_expressions:
            data["matchExpressions"] = [
                {"key": r.key, "operator": r.operator} | ({"values": list(r.values)} if r.values else {})
                for r in self.match_expressions
            ]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            match_labels=tuple(sorted(data.get("matchLabels", {}).items())),
            match_expressions=tuple(
                Requirement(key=r["key"], operator=r["operator"], values=tuple(r.get("values") or ()))
                for r in data.get("matchExpressions", ())
            ),
        )


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    raise ValueError(f"unknown selector operator {requirement.operator!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """`spec.upgradePolicy.drain`, upstream's fields and defaults; `timeoutSeconds` is honoured here."""

    enable: bool = True
    full_node: bool = True
    pod_selector_label: str = ""
    force: bool = False
    delete_empty_dir: bool = True
    timeout_s: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `max_unavailable` nodes of `group` may be unavailable for any reason."""

    group: str
    max_unavailable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The pin of a version: the builder refuses any other commit."""

    repository: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """`spec` of a ttdp. `mode` None = detect, `source` None = the operator's pin, `budgets` empty = 1 node of the CR."""

    version: str
    node_affinity: Selector = field(default_factory=Selector)
    paused: bool = False
    unmanage: bool = False
    force_unload: bool = False
    drain: Drain = field(default_factory=Drain)
    image: str = ""
    image_pull_policy: str = ""
    mode: Mode | None = None
    waiting: bool = False
    vacate: Vacate = Vacate.NEVER
    source: Source | None = None
    budgets: tuple[Budget, ...] = ()

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> Self:
        """Read a spec as served; `nodeSelector` is upstream's older name of `nodeAffinity`."""
        upgrade = spec.get("upgradePolicy") or {}
        drain = upgrade.get("drain") or {}
        installer = spec.get("installer") or {}
        source = spec.get("source")
        return cls(
            version=spec.get("version", ""),
            node_affinity=Selector.from_json(spec.get("nodeAffinity", spec.get("nodeSelector")) or {}),
            paused=spec.get("paused", False),
            unmanage=spec.get("unmanage", False),
            force_unload=upgrade.get("forceUnload", False),
            drain=Drain(
                enable=drain.get("enable", True),
                full_node=drain.get("fullNode", True),
                pod_selector_label=drain.get("podSelectorLabel", ""),
                force=drain.get("force", False),
                delete_empty_dir=drain.get("deleteEmptyDir", True),
                timeout_s=drain.get("timeoutSeconds", 600),
            ),
            image=installer.get("image", ""),
            image_pull_policy=installer.get("imagePullPolicy", ""),
            mode=Mode(spec["mode"]) if "mode" in spec else None,
            waiting=spec.get("waiting", False),
            vacate=Vacate(spec.get("vacate", "Never")),
            source=Source(repository=source["repository"], commit=source["commit"]) if source else None,
            budgets=tuple(
                Budget(group=b["group"], max_unavailable=b["maxUnavailable"]) for b in spec.get("budgets", ())
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Only what differs from upstream's defaults, so that equal specs render to equal bytes."""
        data: dict[str, Any] = {"version": self.version} if self.version else {}  # mode: host may have none
        data["nodeAffinity"] = self.node_affinity.to_json()
        for key, value in (("paused", self.paused), ("unmanage", self.unmanage), ("waiting", self.waiting)):
            if value:
                data[key] = True
        if self.mode is not None:
            data["mode"] = str(self.mode)
        if self.vacate is not Vacate.NEVER:
            data["vacate"] = str(self.vacate)
        if self.source is not None:
            data["source"] = {"repository": self.source.repository, "commit": self.source.commit}
        if self.budgets:
            data["budgets"] = [{"group": b.group, "maxUnavailable": b.max_unavailable} for b in self.budgets]
        if upgrade := self._upgrade_policy():
            data["upgradePolicy"] = upgrade
        if installer := {
            key: value
            for key, value in (("image", self.image), ("imagePullPolicy", self.image_pull_policy))
            if value
        }:
            data["installer"] = installer
        return data

    def _upgrade_policy(self) -> dict[str, Any]:
        default = Drain()
        names = (
            ("enable", "enable"),
            ("fullNode", "full_node"),
            ("podSelectorLabel", "pod_selector_label"),
            ("force", "force"),
            ("deleteEmptyDir", "delete_empty_dir"),
            ("timeoutSeconds", "timeout_s"),
        )
        drain = {
            key: getattr(self.drain, name)
            for key, name in names
            if getattr(self.drain, name) != getattr(default, name)
        }
        upgrade: dict[str, Any] = {"drain": drain} if drain else {}
        if self.force_unload:
            upgrade["forceUnload"] = True
        return upgrade
