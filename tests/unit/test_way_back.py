"""A revert is a way back, a second try is not (docs/adr/0003)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from reconciler.core.fleet.machines import Machine
from reconciler.core.node import retry
from reconciler.core.world import CordonOwner, NodeView
from schema.target import Mode, Target
from schema.transaction import History


def target(version):
    return Target(mode=Mode.CONTAINER, version=version, commit="c" * 40)


def after(*versions):
    """The history of a node that was adopted at the first version and then brought to each of the others."""
    node = NodeView(
        name="n", uid="u", resource_version="1", labels={}, annotations={}, cordon=CordonOwner.NOBODY,
        ready=True, ready_since=0.0, boot_id="b",
    )  # fmt: skip
    for step, (before, to) in enumerate(pairwise(versions)):
        history = retry.succeeded(
            node, plan="p/1", from_=target(before), to=target(to), now=1000.0 * (step + 1), outage_s=1.0
        )
        node = replace(node, history=History.from_json(history.to_json()))
    return node.history


@pytest.mark.parametrize(
    ("had", "to", "back"),
    [
        (("2.7.0", "2.8.0"), "2.7.0", True),
        (("2.7.0", "2.8.0"), "2.9.0", False),
        (("2.7.0", "2.8.0", "2.7.0"), "2.8.0", False),
        (("2.7.0", "2.8.0", "2.7.0", "2.8.0"), "2.7.0", True),
        (("2.7.0", "2.8.0", "2.9.0"), "2.8.0", True),
        (("2.7.0", "2.8.0", "2.9.0", "2.7.0"), "2.8.0", False),
        (("2.7.0", "2.8.0", "2.7.0", "2.8.0", "2.7.0"), "2.8.0", False),
    ],
)
def test_back_is_what_a_node_had_before_the_present(had, to, back):
    live = Machine(name="n", mode=Mode.CONTAINER, version=had[-1], commit="c" * 40, history=after(*had))
    commits = tuple(target(version) for version in reversed(had))
    offline = Machine(name="n", mode=Mode.CONTAINER, version=had[-1], commit="c" * 40, had=commits[1:])
    assert live.goes_back_to(target(to)) is back
    assert offline.goes_back_to(target(to)) is back


def test_a_node_in_the_middle_of_a_transaction_returns_to_where_it_began():
    node = Machine(name="n", mode=Mode.CONTAINER, version="2.8.0", returning_to=target("2.7.0"))
    assert node.goes_back_to(target("2.7.0"))
