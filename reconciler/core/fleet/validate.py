"""Semantic problems of a fleet repository: what documents that are well-formed one by one say together."""

from dataclasses import replace
from typing import Final

from reconciler.core.fleet import membership, placement, versions, wavetables
from reconciler.core.fleet.documents import Problem, Tree
from reconciler.core.fleet.resolve import cluster_names
from reconciler.core.fleet.scopes import Rule, Scope

RULES: Final[tuple[Rule, ...]] = (
    *placement.RULES,
    *versions.RULES,
    *wavetables.RULES,
    *membership.RULES,
)

_SHOWN: Final = 3


def check(tree: Tree, cluster: str | None = None, *, today: str = "") -> tuple[Problem, ...]:
    """Every problem that the documents of a tree have together, sorted by place; `tree.problems` are not among them.

    Args:
        tree: documents that have passed their schemas. What refers to a faulty document is not reported.
        cluster: look at this cluster only; None for all of them.
        today: YYYY-MM-DD, for warnings about days that have come; "" gives none.
    """
    known = cluster_names(tree) or (
        "",
    )  # without clusters/ the repository is one cluster, whatever it is called
    names = known if cluster is None or known == ("",) else (cluster,)
    found: dict[Problem, list[str]] = {}
    for name in names:
        for problem in _problems(Scope(tree=tree, cluster=name, today=today)):
            found.setdefault(problem, []).append(name)
    return tuple(sorted(_placed(problem, where, len(names)) for problem, where in found.items()))


def _problems(scope: Scope) -> frozenset[Problem]:
    return frozenset(problem for rule in RULES for problem in rule(scope))


def _placed(problem: Problem, clusters: list[str], of: int) -> Problem:
    """A problem of a shared document that not every cluster has names those that do."""
    if len(clusters) == of or problem.mark.file.startswith("clusters/"):
        return problem
    shown = ", ".join(clusters[:_SHOWN])
    more = f" and {len(clusters) - _SHOWN} more" if len(clusters) > _SHOWN else ""
    return replace(problem, message=f"{problem.message} (in cluster {shown}{more})")
