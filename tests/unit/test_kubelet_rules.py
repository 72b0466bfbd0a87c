"""The small rules of a hollow kubelet: back-off, grace, environment, annotations, labels, device users, arguments."""

import inspect
import re

import pytest

from reconciler.sandbox.kubelet import behaviour
from reconciler.sandbox.kubelet.backoff import grace_s, restart_delay_s, restarts
from reconciler.sandbox.kubelet.behaviour import PREFIX, Behaviour
from reconciler.sandbox.kubelet.environment import EnvironmentFault, environment, expand
from reconciler.sandbox.kubelet.instances import uses_device
from reconciler.sandbox.kubelet.nodestatus import for_kubelet
from reconciler.sandbox.kubelet.runtime import builder_arguments


def test_back_off_starts_at_once_then_doubles_to_five_minutes():
    assert [restart_delay_s(crashes) for crashes in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert restart_delay_s(10_000) == 300


@pytest.mark.parametrize(
    ("policy", "code", "init", "again"),
    [
        ("Always", 0, False, True),
        ("Always", 1, False, True),
        ("Always", 0, True, False),
        ("Always", 1, True, True),
        ("OnFailure", 0, False, False),
        ("OnFailure", 1, False, True),
        ("Never", 1, False, False),
        ("Never", 1, True, False),
    ],
)
def test_restart_policy(policy, code, init, again):
    assert restarts(policy, code, init=init) is again


@pytest.mark.parametrize(
    ("spec", "told", "current", "expected"),
    [
        ({}, None, None, 30),
        ({"terminationGracePeriodSeconds": 600}, None, None, 600),
        ({"terminationGracePeriodSeconds": 600}, 5, None, 5),
        ({}, 600, 5, 5),  # a grace period in force is never made longer
        ({}, 2, 30, 2),
        ({}, 0, None, 1),  # `kubectl delete --force`
    ],
)
def test_grace_period(spec, told, current, expected):
    metadata = {} if told is None else {"deletionGracePeriodSeconds": told}
    assert grace_s({"metadata": metadata, "spec": spec}, current) == expected


POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "c"}, "annotations": {}},
    "spec": {"nodeName": "node-1"},
}


def test_environment_sees_fields_services_and_what_came_before():
    env = [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ALL", "value": "$(NODE_NAME)-$(HOST)-$$(NODE_NAME)-$(LATER)"},
        {"name": "LATER", "value": "x"},
        {"name": "EMPTY"},
    ]
    assert environment(POD, {"env": env}, {"HOST": "h"}, host_ip="1", pod_ip="2") == {
        "HOST": "h",
        "NODE_NAME": "node-1",
        "LABEL": "c",
        "IP": "2",
        "ALL": "node-1-h-$(NODE_NAME)-$(LATER)",
        "LATER": "x",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    "source", [{"secretKeyRef": {"name": "s", "key": "k"}}, {"fieldRef": {"fieldPath": "spec.no"}}]
)
def test_a_variable_that_has_no_value_here_is_a_fault_not_an_empty_string(source):
    with pytest.raises(EnvironmentFault):
        environment(POD, {"env": [{"name": "X", "valueFrom": source}]}, {}, host_ip="", pod_ip="")


def test_expand_leaves_what_it_does_not_know():
    assert expand("$(A) $(B) $x $$y", {"A": "1"}) == "1 $(B) $x $y"


def test_annotations_mean_all_containers_or_one():
    annotations = {PREFIX + "exit-code": "1", PREFIX + "exit-code.main": "7", PREFIX + "exit-after-s": "0.5"}
    pod = {"metadata": {"annotations": annotations}}
    assert Behaviour.of(pod, "main") == Behaviour(exit_after_s=0.5, exit_code=7)
    assert Behaviour.of(pod, "other").exit_code == 1
    assert Behaviour.of({"metadata": {}}, "x") == Behaviour()


def test_the_list_of_annotations_is_complete():
    listed = set(re.findall(r"^\| `([a-z-]+)`", behaviour.__doc__, re.MULTILINE))
    used = set(re.findall(r'(?:say|seconds)\("([a-z-]+)"', inspect.getsource(Behaviour)))
    assert listed == used


@pytest.mark.parametrize(
    ("label", "own"),
    [
        ("kubernetes.io/hostname", True),
        ("acme.io/pool", True),
        ("plain", True),
        ("feature.node.kubernetes.io/pci-1200_1e52.present", False),
        ("node-restriction.kubernetes.io/x", False),
        ("node-role.kubernetes.io/worker", False),
    ],
)
def test_labels_that_a_kubelet_sets_itself(label, own):
    assert for_kubelet(label) is own


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/tenstorrent", True),
        ("/dev/tenstorrent/0", True),
        ("/dev", False),
        ("/dev/tenstorrent-x", False),
    ],
)
def test_a_mounted_device_directory_makes_a_device_user(path, expected):
    pod = {"spec": {"volumes": [{"name": "d", "hostPath": {"path": path}}, {"name": "e", "emptyDir": {}}]}}
    assert uses_device(pod, {"volumeMounts": [{"name": "d", "mountPath": "/dev/tenstorrent"}]}) is expected
    assert not uses_device(pod, {"volumeMounts": [{"name": "e", "mountPath": "/x"}]})


def test_a_device_resource_makes_a_device_user():
    assert uses_device({"spec": {}}, {"resources": {"limits": {"tenstorrent.com/n150": "1"}}})
    assert not uses_device({"spec": {}}, {"resources": {"limits": {"cpu": "1"}}})


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"args": ["keep", "--interval-s", "5"]}, ("keep", "--interval-s", "5")),
        ({"command": ["python", "-m", "builder"], "args": ["stage"]}, ("stage",)),
        ({"command": ["/usr/bin/python3", "-m", "builder", "swap"]}, ("swap",)),
        ({"args": ["$(VERB)"]}, ("facts",)),
    ],
)
def test_the_builders_arguments_with_and_without_the_entry_point(container, expected):
    assert builder_arguments(container, {"VERB": "facts"}) == expected
