"""Upstream's metrics, exactly (tenstorrent/tt-k8s-driver-manager), and a few of ours.

Never a node, pod or error string as a label. Zeros are published, and the series of a deleted CR go away.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from reconciler.core.actions import (
    Action,
    ApplyKeeper,
    EvictPod,
    NodeReport,
    Outcome,
    Step,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.world import NodeView
from schema.names import LABEL_INSTALL_MODE, LABEL_KMD_VERSION, LABEL_PRESENT
from schema.states import NodeState

PASSES = ("pass1", "pass2")
STAGES = ("node", "pod", "evict", "status", "daemonset", "lease")
TICK_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """A registry of its own, so that two operators can live in one test."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.nodes = Gauge(
            "ttdriver_nodes_by_kmd_version",
            "Tenstorrent nodes by the tt-kmd version that is loaded.",
            ["version", "install_mode"],
            registry=registry,
        )
        self.policy_nodes = Gauge(
            "ttdriver_policy_nodes", "Nodes of a policy by state.", ["cr", "state"], registry=registry
        )
        self.desired = Gauge(
            "ttdriver_policy_desired_version",
            "1 for the version that a policy wants.",
            ["cr", "version"],
            registry=registry,
        )
        self.daemonset = Counter(
            "ttdriver_daemonset_operations_total",
            "Writes of the keeper DaemonSet.",
            ["cr", "operation", "result"],
            registry=registry,
        )
        self.evicted = Counter(
            "ttdriver_pods_evicted_total", "Pods evicted, by drain pass.", ["cr", "pass"], registry=registry
        )
        self.blocked = Counter(
            "ttdriver_drain_blocked_total",
            "Evictions refused, by drain pass.",
            ["cr", "pass"],
            registry=registry,
        )
        self.errors = Counter(
            "ttdriver_errors_total", "Requests that failed, by stage.", ["cr", "stage"], registry=registry
        )
        self.reconciled = Gauge(
            "ttdriver_last_successful_reconcile_timestamp_seconds",
            "When a policy was last looked at without an error.",
            ["cr"],
            registry=registry,
        )
        self.admissions = Counter(
            "ttfleet_admissions_total", "Nodes reserved for work.", ["cr"], registry=registry
        )
        self.conflicts = Counter(
            "ttfleet_conflicts_total", "Writes refused because something had changed.", registry=registry
        )
        self.tick_s = Histogram(
            "ttfleet_tick_seconds",
            "Duration of one look at the cluster and its writes.",
            registry=registry,
            buckets=TICK_BUCKETS_S,
        )
        self._known: set[str] = set()
        self._series: dict[Gauge, set[tuple[str, str]]] = {}

    def observe(
        self,
        versions: Mapping[str, str],
        nodes: Iterable[NodeView],
        reports: Iterable[NodeReport],
        now: float,
    ) -> None:
        """Set every gauge from one look at the cluster.

        Args:
            versions: wanted version by policy name; what is not in it is forgotten.
            nodes: all nodes.
            reports: state of each node as decided.
            now: POSIX seconds.
        """
        for gone in self._known - versions.keys():
            self._forget(gone)
        for cr in versions.keys() - self._known:
            self._publish_zeros(cr)
        self._known = set(versions)
        self._observe_policies(versions, reports, now)
        self._observe_nodes(nodes)

    def _observe_policies(
        self, versions: Mapping[str, str], reports: Iterable[NodeReport], now: float
    ) -> None:
        states = Tally((report.cr, report.state) for report in reports)
        for cr in versions:
            for state in NodeState:
                self.policy_nodes.labels(cr, state).set(states[cr, str(state)])
            self.reconciled.labels(cr).set(now)
        self._set(self.desired, dict.fromkeys(versions.items(), 1))

    def _observe_nodes(self, nodes: Iterable[NodeView]) -> None:
        loaded = Tally(
            (node.labels.get(LABEL_KMD_VERSION, ""), node.labels.get(LABEL_INSTALL_MODE, ""))
            for node in nodes
            if node.labels.get(LABEL_PRESENT) == "true"
        )
        self._set(self.nodes, dict(loaded))

    def _set(self, gauge: Gauge, series: Mapping[tuple[str, str], float]) -> None:
        """Exactly these series; the others go, without a moment in which a scrape finds none."""
        for labels, value in series.items():
            gauge.labels(*labels).set(value)
        for labels in self._series.get(gauge, set()) - series.keys():
            gauge.remove(*labels)
        self._series[gauge] = set(series)

    def acted(self, action: Action, outcome: Outcome) -> None:
        """Count one act."""
        cr = getattr(action, "cr", None) or getattr(action, "policy", "")
        done = outcome.verb is Verb.DONE
        if outcome.verb is Verb.CONFLICT:
            self.conflicts.inc()
        match action:
            case WriteNode(step=Step.RESERVE) if done:
                self.admissions.labels(cr).inc()
            case EvictPod(dry_run=False):
                counter = self.evicted if done else self.blocked
                counter.labels(cr, PASSES[action.drain_pass - 1]).inc()
            case ApplyKeeper():
                self.daemonset.labels("", "apply", "success" if done else "error").inc()
            case _:
                pass
        if outcome.verb in {Verb.UNKNOWN, Verb.REFUSED} and not outcome.cause:
            self.errors.labels(cr, _stage(action)).inc()

    def _publish_zeros(self, cr: str) -> None:
        for drain_pass in PASSES:
            self.evicted.labels(cr, drain_pass)
            self.blocked.labels(cr, drain_pass)
        for stage in STAGES:
            self.errors.labels(cr, stage)
        self.admissions.labels(cr)

    def _forget(self, cr: str) -> None:
        per_policy = (
            self.policy_nodes,
            self.evicted,
            self.blocked,
            self.errors,
            self.admissions,
            self.reconciled,
        )
        for metric in per_policy:
            _remove(metric, cr)


def _remove(metric: MetricWrapperBase, cr: str) -> None:
    """All series of a metric whose first label is `cr`."""
    metric.remove_by_labels({"cr": cr})


def _stage(action: Action) -> str:
    match action:
        case WriteNode():
            return "node"
        case EvictPod():
            return "evict"
        case WriteStatus():
            return "status"
        case ApplyKeeper():
            return "daemonset"
        case _:
            return "pod" if hasattr(action, "node") else "lease"
