"""From waves to TenstorrentDriverPolicies: one per (pool, wave, Target, shard), equal input to equal values."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.core.fleet.documents import Problem
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.resolve import NodeDesired, Policy, PoolDesired
from reconciler.core.fleet.waves import HELD, Wave
from schema.names import (
    ANNOTATION_RANK,
    DRIVER_API_VERSION,
    LABEL_HOSTNAME,
    LABEL_POOL,
    LABEL_SYNC,
    LABEL_WAVE,
    POLICY_KIND,
)
from schema.policy import PolicySpec, Requirement, Selector, Source
from schema.target import Target

SHARD_NODES: Final = 200  # status.nodes[] of more does not fit one object
NAME_LIMIT: Final = 57


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One ttdp to be: nodes of one wave that share Target and policy. `stopped` says why nothing may start in it."""

    name: str
    pool: str
    wave: str
    rank: int
    target: Target
    policy: Policy
    nodes: tuple[str, ...]
    hostnames: tuple[str, ...]
    stopped: str = ""

    @property
    def held(self) -> bool:
        return self.wave == HELD

    def spec(self, *, waiting: bool, hostnames: Iterable[str] | None = None) -> PolicySpec:
        """The ttdp's spec; `hostnames` widens the list while nodes move between policies."""
        values = tuple(sorted(self.hostnames if hostnames is None else hostnames))
        target = self.target
        return PolicySpec(
            version=target.version or "",
            node_affinity=Selector(
                match_expressions=(Requirement(key=LABEL_HOSTNAME, operator="In", values=values),)
            ),
            drain=self.policy.drain,
            mode=target.mode,
            waiting=waiting,
            vacate=target.vacate,
            source=_pin(target),
            budgets=self.policy.budgets,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A ttdp as the reconciler applies it: its labels, its annotations, its spec, and nothing else."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: PolicySpec

    def to_json(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name, "labels": dict(sorted(self.labels.items()))}
        if self.annotations:
            metadata["annotations"] = dict(sorted(self.annotations.items()))
        return {
            "apiVersion": DRIVER_API_VERSION,
            "kind": POLICY_KIND,
            "metadata": metadata,
            "spec": self.spec.to_json(),
        }


def group(pool: PoolDesired, waves: Sequence[Wave]) -> tuple[Group, ...]:
    """All ttdp of a pool, in the order of their ranks."""
    desired = {node.node: node for node in pool.nodes}
    return tuple(
        found for wave in waves for found in _of_wave(pool, wave, [desired[name] for name in wave.nodes])
    )


def manifest(
    part: Group, *, sync: str, spec: PolicySpec, annotations: Mapping[str, str] | None = None
) -> Manifest:
    """A group as the object that is applied for FleetSync `sync`; annotations without a value are left out."""
    every = {ANNOTATION_RANK: str(part.rank), **(annotations or {})}
    return Manifest(
        name=part.name,
        labels={LABEL_SYNC: sync, LABEL_POOL: part.pool, LABEL_WAVE: part.wave},
        annotations={key: value for key, value in every.items() if value},
        spec=spec,
    )


def dump_target(target: Target) -> str:
    """A Target as annotations carry it."""
    return json.dumps(target.to_json(), sort_keys=True, separators=(",", ":"))


def read_target(text: str | None) -> Target | None:
    """Inverse of `dump_target`; None where there is none, or none that we can read."""
    try:
        return Target.from_json(json.loads(text)) if text else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def target_of(spec: PolicySpec) -> Target | None:
    """The Target that a rendered spec asks for; None for a ttdp that detects."""
    if spec.mode is None:
        return None
    return Target(
        mode=spec.mode,
        version=spec.version or None,
        repository=spec.source.repository if spec.source else None,
        commit=spec.source.commit if spec.source else None,
        vacate=spec.vacate,
    )


def hostnames_of(spec: PolicySpec) -> frozenset[str]:
    """The hostname list of a rendered spec, empty for any other selector."""
    return frozenset(
        value
        for requirement in spec.node_affinity.match_expressions
        if requirement.key == LABEL_HOSTNAME and requirement.operator == "In"
        for value in requirement.values
    )


def name_clashes(pools: Sequence[PoolDesired], groups: Sequence[Group]) -> tuple[Problem, ...]:
    """Two groups of one name, such as wave `b` of pool `a` with an exception, and wave `c0ffee` of pool `a-b`."""
    seen: dict[str, Group] = {}
    marks = {pool.name: pool.mark for pool in pools}
    problems = []
    for part in groups:
        other = seen.setdefault(part.name, part)
        if other is not part:
            message = f"pools {other.pool} and {part.pool} both render a policy named {part.name}"
            problems.append(
                Problem(
                    mark=marks[part.pool],
                    code=Code.NAME_CLASH,
                    message=message,
                    hint="rename one of the pools",
                )
            )
    return tuple(problems)


def _pin(target: Target) -> Source | None:
    if target.repository is None or target.commit is None:
        return None
    return Source(repository=target.repository, commit=target.commit)


def _of_wave(pool: PoolDesired, wave: Wave, nodes: Sequence[NodeDesired]) -> Iterator[Group]:
    targets = sorted({node.target for node in nodes}, key=lambda t: (t != pool.target, t.digest))
    for target in targets:
        members = [node for node in nodes if node.target == target]
        suffix = f"-{target.digest[:6]}" if len(targets) > 1 and target != pool.target else ""
        for shard, start in enumerate(range(0, len(members), SHARD_NODES), start=1):
            part = members[start : start + SHARD_NODES]
            number = f"-{shard}" if shard > 1 else ""
            yield Group(
                name=_fit(f"{pool.name}-{wave.name}{number}{suffix}"),
                pool=pool.name,
                wave=wave.name,
                rank=wave.rank,
                target=target,
                policy=part[0].policy,
                nodes=tuple(node.node for node in part),
                hostnames=tuple(sorted(node.machine.hostname for node in part)),
                stopped=part[0].stopped,
            )


def _fit(name: str) -> str:
    """Names longer than the limit end in a digest of the whole."""
    if len(name) <= NAME_LIMIT:
        return name
    return f"{name[: NAME_LIMIT - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
