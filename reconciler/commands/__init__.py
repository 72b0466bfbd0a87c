"""The command line: one verb a file, imported only when it is used.

Adding a verb is adding a module with a click command named `command`, and a line in `VERBS`.
"""

import importlib
import sys
from typing import Any

import click

from reconciler.commands.errors import EXIT_INTERRUPTED, Failure
from schema.version import __version__

#: verb -> (module below reconciler.commands, one line of help); the help stands here so that listing imports nothing
VERBS: dict[str, tuple[str, str]] = {
    "operator": ("operator", "The controller in the cluster: ttfleet operator run."),
    "hollow": ("hollow", ""),  # no line in the help: part of the sandbox
    "cluster": ("cluster", "A real control plane on loopback, in the background."),
    "apply": ("apply", "One pass: fetch, plan, guard, apply, and what became of every policy."),
    "run": ("run", "The reconciler: the cluster follows its fleet repository, wave by wave."),
    "status": ("status", "Where the fleet is: plan, waves, nodes at work, what is blocked."),
    "render": ("render", "The policies of a fleet directory, as YAML or JSON."),
    "plan": ("plan", "What a fleet directory changes, node by node, without a cluster."),
    "demo": (
        "demo",
        "One commit upgrades a fleet, a revert brings it back: real control plane, hollow nodes.",
    ),
    "simulate": (
        "simulate",
        "Three commits on a modelled cluster, in virtual time: a first look in two seconds.",
    ),
    "validate": ("validate", "Every problem of a fleet repository at once, without a cluster."),
}


class LazyGroup(click.Group):
    """A click group that imports a verb's module only when it is called."""

    def __init__(self, *args: Any, verbs: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.verbs, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"reconciler.commands.{self.verbs[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib  # noqa: PLC0415  only where a verb was mistyped

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean {close[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, self.verbs[name][1])
            for name in self.list_commands(ctx)
            if self.verbs.get(name, ("", ""))[1]
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="ttfleet", message="%(prog)s %(version)s")
def root() -> None:
    """GitOps control plane for the Tenstorrent kernel driver (tt-kmd) on Kubernetes."""


def main() -> None:
    """Entry point of the script: runs a verb and turns every failure into one message and one exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `ttfleet ARGUMENTS`; returns the exit code (docs/exit-codes.md)."""
    try:
        result = root.main(args=arguments, prog_name="ttfleet", standalone_mode=False)
    except Failure as failure:
        click.echo(f"ttfleet: {failure}", err=True)
        return failure.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("ttfleet: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone (`| head`): nothing more to say
        return 0
    return result if isinstance(result, int) else 0
