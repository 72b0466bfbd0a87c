"""Which API server a verb talks to: the two options that all of them have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def connection_options(command: Command) -> Command:
    """Add `--kubeconfig` and `--context`, passed on as `kubeconfig` and `context`."""
    command = click.option("--context", help="Of the kubeconfig.")(command)
    return click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False),
        help="Else $KUBECONFIG, or the pod's account.",
    )(command)
