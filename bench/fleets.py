"""A fleet repository in memory: pools, releases and exceptions, one small file each, in several clusters."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.adapters.source import File, blob_id

HEAD = "apiVersion: fleet.tenstorrent.com/v1alpha1\n"
_POOL = """kind: NodePool
metadata: {{name: {name}}}
spec:
  selector:
    matchLabels:
      example.com/pool: {name}
  kmd:
    mode: container
    channel: stable
  maxUnavailable: 10%
  drain:
    timeoutSeconds: 900
    podSelectorLabel: app
  waves:
    - {{name: canary, count: 1}}
    - {{name: early, percent: 25}}
    - {{name: rest}}
"""
_FLEET = """kind: Fleet
metadata: {{name: bench}}
spec:
  channels: {{stable: "{version}"}}
  maxUnavailable: 10%
"""
_RELEASE = """kind: Release
metadata: {{name: "{version}"}}
spec:
  commit: "{commit}"
"""


@dataclass
class Commits:
    """A `Source` of what lies in it now; whatever is put there makes a new revision."""

    by_path: dict[str, File] = field(default_factory=dict)
    changes: int = 0

    def put(self, path: str, text: str) -> None:
        data = (HEAD + text).encode()
        self.by_path[path] = File(path=path, blob=blob_id(data), data=data)
        self.changes += 1

    def revision(self) -> str:
        return f"{self.changes:040x}"

    def files(self, revision: str) -> Iterable[File]:
        del revision
        return tuple(self.by_path.values())

    def descends(self, revision: str, ancestor: str) -> bool:
        del revision, ancestor
        return True

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        del revision, limit
        return ()


def commits(pools: int, version: str = "2.7.0") -> Commits:
    """A fleet of `pools` pools and what they need."""
    made = Commits()
    made.put("fleet.yaml", _FLEET.format(version=version))
    for release in ("2.6.0", "2.7.0", "2.8.0"):
        made.put(f"releases/{release}.yaml", _RELEASE.format(version=release, commit=release[2] * 40))
    for number in range(pools):
        put_pool(made, number)
    return made


def put_pool(made: Commits, number: int, note: str = "") -> None:
    name = f"pool-{number}"
    made.put(f"pools/{name}.yaml", _POOL.format(name=name) + note)
