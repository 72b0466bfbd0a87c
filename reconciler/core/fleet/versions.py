"""Rules on versions: every container-managed node has one, through a channel or not, with the Release that pins it."""

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.core.fleet.documents import Document, Mark, Problem, Setting, Severity
from reconciler.core.fleet.layers import Settings, merge
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.resolve import version_setting
from reconciler.core.fleet.scopes import Scope
from schema.target import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A pool, or a Node that differs from its pool, under `mode: container`."""

    document: Document
    settings: Settings

    @property
    def mark(self) -> Mark:
        return self.document.mark_at("spec", "kmd")


def has_a_version(scope: Scope) -> Iterator[Problem]:
    """`version` or a channel is required where the mode is container."""
    for use in _uses(scope):
        if version_setting(use.settings) is None and not scope.may_be_missing("Fleet", "Cluster"):
            yield Problem(
                mark=use.mark,
                code=Code.NO_VERSION,
                message=f"{use.document.kind} {use.document.name} is container-managed and has no version",
                hint="set kmd.version or kmd.channel here, or channel in the Cluster",
            )


def channel_exists(scope: Scope) -> Iterator[Problem]:
    known = sorted(str(path[1]) for path in scope.shared.by_path if path[0] == "channels")
    for use in _uses(scope):
        setting = _channel_setting(use)
        missing = setting is not None and scope.channel(setting.value) is None
        if setting is not None and missing and not scope.may_be_missing("Fleet", "Cluster"):
            yield Problem(
                mark=setting.mark,
                code=Code.NO_CHANNEL,
                message=f"there is no channel {setting.value}",
                hint=f"channels: {', '.join(known)}"
                if known
                else "the Fleet names channels under spec.channels",
            )


def release_exists(scope: Scope) -> Iterator[Problem]:
    known = ", ".join(sorted(scope.releases, key=_order)) or "none"
    for use in _uses(scope):
        setting = _version(scope, use)
        if setting is None or setting.value in scope.releases:
            continue
        if not scope.may_be_missing("Release", name=setting.value):
            yield Problem(
                mark=setting.mark,
                code=Code.NO_RELEASE,
                message=f"version {setting.value} has no Release",
                hint=f"a Release {setting.value} names the commit that it is built from; Releases here: {known}",
            )


def release_is_open(scope: Scope) -> Iterator[Problem]:
    """A blocked Release stops starts and never validation: the pull request that rolls back passes."""
    for use in _uses(scope):
        setting = _version(scope, use)
        release = scope.releases.get(setting.value) if setting else None
        if setting and release and release.spec.get("blocked"):
            yield Problem(
                mark=setting.mark,
                code=Code.BLOCKED_RELEASE,
                message=f"version {setting.value} is blocked, no node starts towards it: {release.spec['blocked']}",
                hint="nodes that run it stay; choose another version to move them",
                severity=Severity.WARNING,
            )


def _uses(scope: Scope) -> Iterator[Use]:
    """Container-managed pools; and Nodes with a kmd of their own, over their pool where it is known."""
    for pool in scope.documents("NodePool"):
        if pool.spec["kmd"]["mode"] == Mode.CONTAINER:
            yield Use(document=pool, settings=merge((*scope.outer, pool)))
    for node in scope.documents("Node"):
        pools = scope.pools_of(node.name)
        settings = merge((*scope.outer, *pools[:1], node))
        if "kmd" in node.spec and len(pools) == 1 and settings.value("kmd", "mode") == Mode.CONTAINER:
            yield Use(document=node, settings=settings)


def _channel_setting(use: Use) -> Setting | None:
    setting = version_setting(use.settings)
    return None if setting is use.settings.find("kmd", "version") else setting


def _version(scope: Scope, use: Use) -> Setting | None:
    """The version with the place that says it: a channel's entry, or kmd.version."""
    channel = _channel_setting(use)
    return scope.channel(channel.value) if channel else version_setting(use.settings)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


RULES = (has_a_version, channel_exists, release_exists, release_is_open)
