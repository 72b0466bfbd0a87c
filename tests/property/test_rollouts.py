"""Whatever commits, joins, losses, failures and broken connections come in whatever order: what a roll-out never does."""

import asyncio
from dataclasses import replace
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import hostnames_of, target_of
from reconciler.core.fleet.resolve import resolve
from reconciler.core.fleet.waves import HELD, WaveSpec, assign
from reconciler.core.rollout.plan import Kind, kind_of, opening_waves, settled_waves
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import ApplyPolicy, DeletePolicy, Stall
from reconciler.loop import tick
from reconciler.simulation.fleets import document, node_labels, tree
from reconciler.simulation.rollouts import ModelCluster
from schema.names import ANNOTATION_PLAN, ANNOTATION_PROMOTED_PLAN, ANNOTATION_RANK, LABEL_POOL
from schema.sync import SyncMode, SyncReason
from schema.target import Mode

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # stories shrink slowly; the trace says enough
PROFILE = settings(
    max_examples=60, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow]
)
VERSIONS = ("2.6.0", "2.7.0", "2.8.0")
RELEASES = tuple(document("Release", version, {"commit": version[2] * 40}) for version in VERSIONS)
TABLES = (
    None,
    [{"name": "canary", "count": 1}, {"name": "rest"}],
    [{"name": "canary", "count": 2}, {"name": "early", "percent": 25}, {"name": "rest"}],
)

names = st.integers(0, 14).map(lambda number: f"n{number:02}")
tables = st.builds(
    lambda counts: (*(WaveSpec(name=f"w{i}", count=c) for i, c in enumerate(counts)), WaveSpec(name="rest")),
    st.lists(st.integers(1, 5), max_size=4),
)


def machine(name: str, version: str = "2.7.0") -> Machine:
    mode = Mode.CONTAINER if version else None
    labels = node_labels(name, mode=str(mode or ""), version=version, half="ab"[int(name[1:]) % 2])
    return Machine(name=name, labels=labels, mode=mode, version=version)


class Commit(NamedTuple):
    """What a commit says of two pools that share the nodes by label, so that an edit moves none."""

    versions: tuple[str, str]
    tables: tuple[int, int]
    budget: int
    held: frozenset[str]

    def tree(self):
        pools = [
            document(
                "NodePool",
                half,
                {
                    "selector": {"matchLabels": {"half": half}},
                    "kmd": {"mode": "container", "version": version},
                }
                | ({"waves": TABLES[table]} if TABLES[table] else {}),
            )
            for half, version, table in zip("ab", self.versions, self.tables, strict=True)
        ]
        fleet = document("Fleet", "f", {"allowDowngrade": True, "maxUnavailable": self.budget})
        held = [document("Node", name, {"hold": True, "reason": "x"}) for name in sorted(self.held)]
        return tree(f"r{hash(self)}", fleet, *pools, *RELEASES, *held)


def commits():
    version, table = st.sampled_from(VERSIONS), st.integers(0, len(TABLES) - 1)
    return st.builds(
        Commit,
        st.tuples(version, version),
        st.tuples(table, table),
        st.integers(1, 4),
        st.frozensets(names, max_size=2),
    )


events = st.one_of(
    st.tuples(st.just("commit"), commits()),
    st.tuples(st.just("join"), st.tuples(names, st.sampled_from(("", *VERSIONS)))),
    st.tuples(st.just("leave"), names),
    st.tuples(st.just("fail"), names),
    st.tuples(st.just("mend"), names),
    st.tuples(st.just("break"), st.integers(0, 4)),
    st.tuples(st.just("run"), st.integers(1, 6)),
    st.tuples(st.just("kubectl delete"), st.integers(0, 7)),
    st.tuples(st.just("kubectl edit"), st.integers(0, 7)),
    st.tuples(st.just("lose status"), st.none()),
)


class Watched(ModelCluster):
    """A cluster in which every start is checked: an open wave has no wave before it that is not promoted."""

    def _swap(self, name, policy):
        mine = policy.labels[LABEL_POOL], policy.annotations.get(ANNOTATION_PLAN)
        for other in self.policies.values():
            same = (other.labels[LABEL_POOL], other.annotations.get(ANNOTATION_PLAN)) == mine
            earlier = int(other.annotations[ANNOTATION_RANK]) < int(policy.annotations[ANNOTATION_RANK])
            installs = policy.spec.waiting
            if same and earlier and self._members(other) and not installs:
                assert other.annotations.get(ANNOTATION_PROMOTED_PLAN) == mine[1], (name, self.trace[-20:])
        super()._swap(name, policy)


def happen(cluster: ModelCluster, what: str, argument) -> None:
    match what:
        case "commit":
            cluster.commits.append(argument.tree())
        case "join":
            name, version = argument
            if name not in cluster.machines:
                cluster.machines[name] = machine(name, version)
        case "leave" if len(cluster.machines) > 3:
            cluster.machines.pop(argument, None)
        case "fail":
            cluster.failing.add(argument)
        case "mend":
            cluster.failing.discard(argument)
        case "kubectl delete" if cluster.policies:
            del cluster.policies[_some(cluster, argument)]
        case "kubectl edit" if cluster.policies:  # opens a wave
            policy = cluster.policies[_some(cluster, argument)]
            spec = replace(policy.spec, waiting=False)
            cluster.policies[policy.name] = replace(policy, spec=spec, generation=policy.generation + 1)
        case "lose status":
            cluster.status = {}


def _some(cluster: ModelCluster, number: int) -> str:
    return sorted(cluster.policies)[number % len(cluster.policies)]


async def play(cluster: ModelCluster, script) -> None:
    for what, argument in script:
        happen(cluster, what, argument)
        cluster.writes_left = argument if what == "break" else None
        for _ in range(argument if what == "run" else 1):
            before = {name for policy in cluster.policies.values() for name in cluster._members(policy)}
            await cluster.tick()
            after = {name for policy in cluster.policies.values() for name in cluster._members(policy)}
            assert before & cluster.machines.keys() <= after, "a node fell out of every policy"
            cluster.operate(batch=2)


def start(commit, count=9) -> Watched:
    machines = {name: machine(name) for name in (f"n{number:02}" for number in range(count))}
    return Watched(
        drive=tick, machines=machines, commits=[commit.tree() if isinstance(commit, Commit) else commit]
    )


@given(commits(), st.lists(events, max_size=25))
@example(  # every canary is held before it is done
    Commit(("2.6.0", "2.8.0"), (2, 1), 3, frozenset({"n14"})),
    [("leave", "n04"), ("commit", Commit(("2.6.0", "2.6.0"), (2, 1), 2, frozenset({"n08", "n06"})))],
)
@PROFILE
def test_every_story_ends_with_each_node_at_its_target_in_exactly_one_policy(first, script):
    async def story():
        cluster = start(first)
        await play(cluster, script)
        cluster.failing.clear()
        cluster.writes_left = None
        await cluster.settle(batch=3)
        assert not (await cluster.tick()).actions
        wanted = resolve(cluster.commits[-1], "", cluster.machines.values())
        for name, node in wanted.nodes.items():
            holding = [p for p in cluster.policies.values() if name in cluster._members(p)]
            assert len(holding) == 1, (name, holding)
            assert target_of(holding[0].spec) == node.target
            if not node.hold:
                assert kind_of(cluster.machines[name].current, node.target) is Kind.NONE
        for pool in wanted.pools:
            layout = {}
            for policy in cluster.policies.values():
                if policy.labels[LABEL_POOL] == pool.name:
                    layout |= dict.fromkeys(
                        cluster._members(policy), policy.labels["fleet.tenstorrent.com/wave"]
                    )
            assert layout == settled_waves(pool), "at rest a pool lies as its table says"

    asyncio.run(story())


@given(commits(), st.lists(events, max_size=12))
@PROFILE
def test_the_order_of_nodes_and_policies_changes_no_decision(first, script):
    async def story():
        cluster = start(first)
        await play(cluster, script)
        world = await cluster.snapshot()
        turned = replace(
            world,
            machines=dict(reversed(world.machines.items())),
            policies=dict(reversed(world.policies.items())),
        )
        assert sequence(world, 1.0) == sequence(turned, 1.0)

    asyncio.run(story())


@given(commits(), st.lists(events, max_size=12), st.sampled_from(["fault", "empty", "no nodes", "invalid"]))
@PROFILE
def test_no_failed_or_empty_tree_ever_writes_a_policy(first, script, how):
    async def story():
        cluster = start(first)
        await play(cluster, script)
        match how:
            case "fault":
                cluster.fault = Stall(reason=SyncReason.SOURCE_UNAVAILABLE, message="gone")
            case "empty":
                cluster.commits.append(tree("empty"))
            case "no nodes":
                cluster.machines.clear()
            case "invalid":
                pool = document("NodePool", "a", {"nodes": ["n00"], "kmd": {"mode": "container"}})
                cluster.commits.append(tree("bad", pool))
        before = dict(cluster.policies)
        for _ in range(3):
            decision = await cluster.tick()
            assert decision.stall is not None
            assert not [a for a in decision.actions if isinstance(a, ApplyPolicy | DeletePolicy)]
        assert cluster.policies == before

    asyncio.run(story())


@given(commits(), st.lists(events, max_size=8))
@PROFILE
def test_observe_writes_nothing_but_the_status(first, script):
    async def story():
        cluster = start(first)
        cluster.mode = SyncMode.OBSERVE
        await play(cluster, script)
        assert cluster.policies == {}
        assert "lastAppliedRevision" not in cluster.status

    asyncio.run(story())


@given(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS), st.sampled_from(TABLES), st.integers(0, 30))
@PROFILE
def test_a_revert_brings_every_target_back_with_one_wave_for_the_nodes_that_had_it(old, new, table, steps):
    def commit(index, version):
        kmd = {"mode": "container", "version": version}
        spec = {"selector": {"matchLabels": {}}, "kmd": kmd} | ({"waves": table} if table else {})
        return tree(f"r{index}", document("NodePool", "a", spec), *RELEASES, document("Fleet", "f", {}))

    async def story():
        cluster = start(commit(0, old))
        cluster.machines = {name: machine(name, old) for name in cluster.machines}
        await cluster.settle(batch=3)
        before = {name: one.current for name, one in cluster.machines.items()}
        cluster.commits.append(commit(1, new))
        for _ in range(steps):
            await cluster.tick()
            cluster.operate()
        changed = [n for n, one in cluster.machines.items() if one.version != old]
        cluster.commits.append(commit(2, old))
        decision = await cluster.tick()
        assert decision.stall is None
        back = [c.node for c in decision.plan.changes if c.wave == "back"]
        assert sorted(back) == sorted(changed)
        await cluster.settle(batch=3)
        assert {n: one.version for n, one in cluster.machines.items()} == {
            n: t.version for n, t in before.items()
        }

    asyncio.run(story())


@given(st.sets(names, min_size=1), tables, st.randoms())
def test_every_node_is_in_one_wave_with_exact_counts_whatever_the_order(nodes, table, random):
    shuffled = list(nodes)
    random.shuffle(shuffled)
    waves = assign("p", shuffled, table)
    assert waves == assign("p", sorted(nodes), table)
    assert waves.keys() == nodes
    left = len(nodes)
    for spec in table:
        size = sum(wave == spec.name for wave in waves.values())
        assert size == min(left, spec.count if spec.count is not None else left)
        left -= size
    assert left == 0


@given(commits(), st.sets(names, min_size=1))
@PROFILE
def test_a_plan_of_equal_trees_is_empty_and_a_first_layout_has_each_node_once(commit, found):
    machines = [machine(name) for name in sorted(found)]
    desired = resolve(commit.tree(), "", machines)
    assert desired == resolve(commit.tree(), "", reversed(machines))
    settled = [
        replace(m, version=desired.nodes[m.name].target.version, commit=desired.nodes[m.name].target.commit)
        for m in machines
    ]
    again = resolve(commit.tree(), "", settled)
    assert all(kind_of(node.machine.current, node.target) is Kind.NONE for node in again.nodes.values())
    for pool in desired.pools:
        assert opening_waves(pool).keys() == {node.node for node in pool.nodes}
        assert {n for n, wave in opening_waves(pool).items() if wave == HELD} == {
            node.node for node in pool.nodes if node.hold
        }


@given(commits(), st.lists(events, max_size=10))
@PROFILE
def test_no_list_is_longer_than_a_shard_and_no_policy_stays_without_nodes(first, script):
    async def story():
        cluster = start(first)
        await play(cluster, script)
        cluster.failing.clear()
        cluster.writes_left = None
        await cluster.settle(batch=5)
        assert all(1 <= len(hostnames_of(policy.spec)) <= 200 for policy in cluster.policies.values())

    asyncio.run(story())
