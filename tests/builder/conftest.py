"""A node as an in-memory register, a host whose tools run in this process, and a bomb that goes off at any operation."""

import itertools
import json
from dataclasses import dataclass, field

import pytest

from builder.api import ApiError
from builder.context import Context
from builder.host import Done, Host
from builder.settings import Settings
from reconciler.sandbox.hosts import FakeHost, tools
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HOST_FACTS,
    ANNOTATION_TXN,
    MANAGER_OPERATOR,
)
from schema.target import Mode, Target
from schema.transaction import Claim, Phase, Record

COMMITS = {
    "2.7.0": "3998cc46acc2827bbad2eac81df94b8130880f86",
    "2.8.0": "c99a68c592495467d1c668c8a66dd9253ef3d277",
}


class Killed(BaseException):
    """SIGKILL, as far as this process is concerned: no handler of the builder's sees it."""


@dataclass
class Bomb:
    """Counts operations and goes off before number `at`; after the one before is the same, nothing lies between."""

    at: int | None = None
    count: int = 0

    def tick(self):
        self.count += 1
        if self.count == self.at:
            raise Killed

    def around(self, operation):
        self.tick()
        return operation()


class BombedHost(Host):
    """The real gate over a fake host; fake tools are called, not spawned."""

    def __init__(self, machine, bomb):
        super().__init__(machine.root, machine.bin)
        object.__setattr__(self, "bomb", bomb)

    def run(self, argv, *, timeout_s, cwd=None):
        if argv[0] not in tools.TOOLS:
            return self.bomb.around(lambda: Host.run(self, argv, timeout_s=timeout_s, cwd=cwd))
        code, out, err = self.bomb.around(lambda: tools.invoke(self.root, argv, cwd or self.root))
        return Done(code=code, out=out, err=err)

    def write(self, name, data, mode=0o644):
        self.bomb.around(lambda: Host.write(self, name, data, mode))

    def remove(self, name):
        self.bomb.around(lambda: Host.remove(self, name))


@dataclass
class Register:
    """One Node object with resourceVersion semantics. `faults` are raised, one a request, before it is served."""

    bomb: Bomb = field(default_factory=Bomb)
    version: int = 1
    labels: dict = field(default_factory=dict)
    annotations: dict = field(default_factory=dict)
    unschedulable: bool = False
    managers: tuple = (MANAGER_OPERATOR,)
    faults: list = field(default_factory=list)
    lost: int = 0  # answers that get lost after the write has landed
    patches: int = 0

    def get(self):
        self._fault()
        owned = [{"manager": name, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}} for name in self.managers]
        return {
            "metadata": {
                "name": "node-1",
                "resourceVersion": str(self.version),
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
                "managedFields": owned,
            },
            "spec": {"unschedulable": True} if self.unschedulable else {},
        }

    def patch(self, metadata):
        return self.bomb.around(lambda: self._patch(metadata))

    def _patch(self, metadata):
        self._fault()
        if metadata["resourceVersion"] != str(self.version):
            raise ApiError(409, "the object has been modified")
        self.patches += 1
        self.write(**{kind: metadata.get(kind, {}) for kind in ("labels", "annotations")})
        if self.lost:
            self.lost -= 1
            raise ApiError(0, "timed out")
        return self.get()

    def write(self, labels=(), annotations=(), **fields):
        """What somebody else, or a patch, writes."""
        for store, changes in ((self.labels, dict(labels)), (self.annotations, dict(annotations))):
            store.update({key: value for key, value in changes.items() if value is not None})
            for key in [key for key, value in changes.items() if value is None]:
                store.pop(key, None)
        for name, value in fields.items():
            setattr(self, name, value)
        self.version += 1

    def _fault(self):
        if self.faults:
            raise self.faults.pop(0)

    def permit(self, boot_id, *, version="2.8.0", id_="0123456789abcdef", phase=Phase.PERMITTED):
        """The operator has cordoned, drained and permitted."""
        record = Record(
            id=id_,
            cr="train-rest",
            plan="train/1-abc",
            from_=None,
            to=Target(mode=Mode.CONTAINER, version=version, commit=COMMITS.get(version)),
            phase=phase,
            since="2026-01-01T00:00:00Z",
            reserved="2026-01-01T00:00:00Z",
            boot_id=boot_id,
        )
        self.write(annotations={ANNOTATION_TXN: json.dumps(record.to_json())}, unschedulable=True)

    def release(self):
        """Row 9."""
        self.write(annotations={ANNOTATION_TXN: None, ANNOTATION_CLAIM: None}, unschedulable=False)

    @property
    def claim(self):
        text = self.annotations.get(ANNOTATION_CLAIM)
        return Claim.from_json(json.loads(text)) if text else None

    @property
    def facts(self):
        return json.loads(self.annotations[ANNOTATION_HOST_FACTS])


@dataclass
class FakeClock:
    """Sleeping takes no time, but the clock goes on. `then` runs at each sleep: the world moves meanwhile."""

    seconds: float = 1_767_225_600.0
    then: object = None

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds
        if self.then:
            self.then()


@dataclass
class Bench:
    """A fake machine, its node, and contexts of builders that work there."""

    machine: FakeHost
    register: Register
    repository: str = ""
    log: list = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)

    def context(self, version="2.8.0", *, at=None, id_="0123456789abcdef", **settings):
        bomb = Bomb(at)
        self.register.bomb = bomb
        return Context(
            settings=Settings(
                node="node-1",
                version=version,
                commit=settings.pop("commit", COMMITS.get(version, "")),
                repository=settings.pop("repository", self.repository),
                transaction_id=id_,
                boot_id=settings.pop("boot_id", self.machine.boot_id),
                **settings,
            ),
            host=BombedHost(self.machine, bomb),
            api=self.register,
            clock=self.clock,
            log=self.log.append,
        )

    def permit(self, version="2.8.0", **more):
        self.register.permit(self.machine.boot_id, version=version, **more)


@pytest.fixture
def bench_of(tmp_path):
    """Makes benches: a machine at `live` (None: nothing installed) with `staged` versions in its cache."""
    numbers = itertools.count()

    def make(live="2.7.0", staged=("2.8.0",), **machine):
        fake = FakeHost.create(tmp_path / f"host-{next(numbers)}", **machine)
        for version in staged:
            fake.install_container(version, COMMITS[version], live=False)
        if live:
            fake.install_container(live, COMMITS[live])
        else:
            fake.host.remove("/var/lib/ttfleet/active.json")
        return Bench(fake, Register())

    return make


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A local git repository of the stub driver."""
    from reconciler.sandbox.hosts import create_source_repository

    directory = tmp_path_factory.mktemp("source") / "tt-kmd"
    create_source_repository(directory)
    return directory


@pytest.fixture
def killed():
    return Killed


@pytest.fixture
def commits():
    return COMMITS
