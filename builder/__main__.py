"""`python -m builder VERB`: the command line of the builder image. Everything but the verb comes from the environment.

Ends with one Verdict in one line, on stdout and as the termination message; exit 0 for ok, 1 otherwise, 2 for wrong usage.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from threading import Event
from types import FrameType

from builder.conclusion import conclude
from builder.context import Context, Stopped
from builder.facts import read_facts, to_text
from builder.keep import INTERVAL_S, is_ready, keep_once, keep_until
from builder.stage import stage
from builder.swap import swap
from schema.states import Reason
from schema.transaction import Result
from schema.verdict import Verdict

NICE = 19


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    context = Context.from_environment(os.environ, log=_log, committed=_ignore_termination)
    match options.verb:
        case "facts":
            return _end(context, "facts", _facts)
        case "ready":  # a probe: it shares the keeper's termination message and must not write it
            return 0 if is_ready(context.host) else 1
        case "keep":
            return _keep(context, once=options.once, interval_s=options.interval_s)
        case "stage":
            os.nice(NICE)
            return _end(context, "stage", stage)
        case _:
            return _end(context, "swap", swap)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="builder", description="host work of ttfleet on one node")
    verbs = parser.add_subparsers(dest="verb", required=True)
    keep = verbs.add_parser("keep", help="load at boot what active.json names; report facts")
    keep.add_argument("--once", action="store_true", help="one pass")
    keep.add_argument("--interval-s", type=float, default=INTERVAL_S, help="seconds between passes")
    verbs.add_parser("stage", help="build and verify the target while the old module serves")
    verbs.add_parser("swap", help="replace the live module, under the permit of a transaction")
    verbs.add_parser("facts", help="print the host's facts")
    verbs.add_parser("ready", help="exit 0 when the active module is live")
    return parser


def _keep(context: Context, *, once: bool, interval_s: float) -> int:
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stopped.set())
    if once:
        return _end(context, "keep", keep_once)
    keep_until(context, stopped, interval_s=interval_s, say=lambda verdict: _log(verdict.to_line()))
    return 0


def _facts(context: Context) -> Verdict:
    facts = read_facts(context.host)
    _log(to_text(facts))
    version = facts.loaded.version if facts.loaded else None
    return Verdict(verb="facts", result=Result.OK, changed=False, version=version)


def _end(context: Context, verb: str, work: Callable[[Context], Verdict]) -> int:
    if verb != "keep":
        signal.signal(signal.SIGTERM, _stop)
    verdict = conclude(context, verb, work)
    line = verdict.to_line()
    with contextlib.suppress(OSError):
        context.settings.termination_log.write_text(line)
    print(line, flush=True)
    return 0 if verdict.result is Result.OK else 1


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM before the claim: give up, nothing has been changed."""
    raise Stopped(Reason.PERMIT_VOID, "the pod was told to stop")


def _ignore_termination() -> None:
    """From the claim on the work is finished first; the pod's grace period is made for that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _log(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
