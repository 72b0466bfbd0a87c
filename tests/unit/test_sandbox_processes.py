"""Children die with their parent, are ended by identity, and say how they died."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from reconciler.sandbox import processes
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.processes import Identity

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
BOUND_S = 20


def eventually(check, bound_s=BOUND_S):
    deadline = time.monotonic() + bound_s
    while not check():
        assert time.monotonic() < deadline, "not within the bound"
        time.sleep(0.02)


PARENT = """
import pathlib, sys, threading
from reconciler.sandbox import processes

def begin():
    child = processes.start("sleeper", sys.argv[2:], pathlib.Path(sys.argv[1]))
    print(child.process.pid, flush=True)

thread = threading.Thread(target=begin)  # the thread that asks ends at once: the child must not end with it
thread.start()
thread.join()
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_no_child_outlives_its_parent(tmp_path, number):
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, log, *SLEEP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        child = Identity.of(int(parent.stdout.readline()))
        eventually(lambda: log.exists() and "up" in log.read_text())
        assert child.alive
        if number is None:
            parent.stdin.close()  # it simply ends
        else:
            parent.send_signal(number)
        parent.wait(BOUND_S)
    eventually(lambda: not child.alive)


def test_a_child_survives_the_thread_that_asked_for_it(tmp_path):
    children = []
    thread = threading.Thread(target=lambda: children.append(processes.start("s", SLEEP, tmp_path / "log")))
    thread.start()
    thread.join(BOUND_S)
    try:
        eventually(lambda: "up" in (tmp_path / "log").read_text())
        children[0].check()
    finally:
        processes.stop(children)
    assert children[0].process.returncode == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_with_what_it_started(tmp_path):
    script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"
    child = processes.start("stubborn", ["sh", "-c", script], tmp_path / "log")
    eventually(lambda: (tmp_path / "log").read_text().strip())
    grandchild = Identity.of(int((tmp_path / "log").read_text()))
    assert grandchild.alive
    processes.stop([child], grace_s=0.2)
    assert child.process.returncode == -signal.SIGKILL
    eventually(lambda: not grandchild.alive)


def test_death_is_told_with_the_end_of_the_log(tmp_path):
    child = processes.start("etcd", ["sh", "-c", "echo no such luck; exit 3"], tmp_path / "log")
    with pytest.raises(SandboxError, match=r"(?s)etcd ended with exit code 3; the end of .*no such luck"):
        processes.wait_until(lambda: False, "never", timeout_s=BOUND_S, children=[child])


def test_a_program_that_is_missing_says_so(tmp_path):
    child = processes.start("nothing", [tmp_path / "absent"], tmp_path / "log")
    with pytest.raises(SandboxError, match="absent: No such file"):
        processes.wait_until(lambda: False, "never", timeout_s=BOUND_S, children=[child])


def test_a_wait_is_bounded_and_quotes_the_logs(tmp_path):
    child = processes.start("slow", SLEEP, tmp_path / "log")
    try:
        eventually(lambda: "up" in (tmp_path / "log").read_text())
        with pytest.raises(SandboxTimeoutError, match=r"(?s)paint dry: not within 0 s.*up"):
            processes.wait_until(lambda: False, "paint dry", timeout_s=0.1, children=[child])
    finally:
        processes.stop([child])


def test_an_id_that_now_belongs_to_a_stranger_is_left_alone(tmp_path):
    stranger = processes.start("stranger", SLEEP, tmp_path / "log")
    try:
        known = Identity.of(stranger.process.pid)
        for other in (
            Identity(pid=known.pid, started=known.started - 1, boot=known.boot),
            Identity(pid=known.pid, started=known.started, boot="another boot"),
        ):
            assert not other.alive
            assert not processes.end(other, grace_s=1)
        assert known.alive
        assert processes.end(known, grace_s=BOUND_S)
        assert stranger.process.wait(BOUND_S) == -signal.SIGTERM
        assert not processes.end(known, grace_s=1)
    finally:
        processes.stop([stranger])


def test_a_zombie_is_not_alive():
    with subprocess.Popen(["true"]) as child:
        eventually(lambda: Identity.of(child.pid) is None)
        child.wait(BOUND_S)


def test_own_age_is_known():
    assert 0 < Identity.of(os.getpid()).age_s() < 3600


def test_free_ports_are_distinct_and_below_the_ephemeral_range():
    ports = processes.free_ports(50)
    assert len(set(ports)) == 50
    assert all(port in processes.PORTS for port in ports)
