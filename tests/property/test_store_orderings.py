"""A store fed by watch events and answers to writes in any order: reads our own writes, never goes backwards."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.adapters.store import Store

KEYS = ("a", "b")


def item(key, version):
    return {"metadata": {"name": key, "resourceVersion": str(version)}, "version": version}


class Orderings(RuleBasedStateMachine):
    """A server that commits one change after the other, and a store that hears of them late and out of order."""

    def __init__(self):
        super().__init__()
        self.store = Store(lambda raw: raw["version"])
        self.version = 0
        self.live = {}  # the server's truth
        self.log = []  # (version, kind, key) as the watch will tell it
        self.told = 0  # events of the log that were delivered
        self.answers = []  # (version, key) of our own writes whose answers are under way
        self.answered_since_list = {}  # key -> newest answer since the list was taken
        self.lists = []  # (version, content) of lists under way
        self.shown = {}  # key -> newest version that the store has shown in this epoch
        self.ended = {}  # key -> version of the newest deletion that was told in this epoch
        self.store.begin_list()
        self.store.replace([], 0)

    def commit(self, kind, key):
        self.version += 1
        self.log.append((self.version, kind, key))
        if kind == "DELETED":
            del self.live[key]
        else:
            self.live[key] = self.version

    @rule(key=st.sampled_from(KEYS))
    def somebody_writes(self, key):
        self.commit("MODIFIED" if key in self.live else "ADDED", key)

    @rule(key=st.sampled_from(KEYS))
    def we_write(self, key):
        self.somebody_writes(key)
        self.answers.append((self.version, key))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def somebody_deletes(self, data):
        self.commit("DELETED", data.draw(st.sampled_from(sorted(self.live))))

    @precondition(lambda self: self.told < len(self.log))
    @rule()
    def an_event_arrives(self):
        version, kind, key = self.log[self.told]
        self.told += 1
        self.store.event(kind, item(key, version))
        if kind == "DELETED":
            self.ended[key] = version

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def an_answer_arrives(self, data):
        answer = data.draw(st.sampled_from(self.answers))
        self.answers.remove(answer)
        version, key = answer
        self.store.wrote(item(key, version))
        self.answered_since_list[key] = max(version, self.answered_since_list.get(key, 0))
        assert (self.store.get(key) or 0) >= version or self.told_gone_since(key, version), (
            "own write not seen"
        )

    def told_gone_since(self, key, version):
        told = [v for v, kind, name in self.log if name == key and kind == "DELETED" and v <= self.store.seen]
        return any(v > version for v in told)

    @precondition(lambda self: not self.lists)
    @rule()
    def a_list_is_taken(self):
        self.store.begin_list()
        self.answered_since_list = {}
        self.lists.append((self.version, dict(self.live)))

    @precondition(lambda self: self.lists)
    @rule()
    def a_list_arrives(self):
        version, content = self.lists.pop()
        self.store.replace([item(key, v) for key, v in content.items()], version)
        self.told = sum(1 for v, _, _ in self.log if v <= version)
        self.shown, self.ended = {}, {}
        for key, v in self.answered_since_list.items():
            assert (self.store.get(key) or 0) >= v or v <= version, "a list took our own write away"

    @invariant()
    def never_backwards_within_an_epoch(self):
        for key in KEYS:
            version = self.store.get(key)
            if version is None:
                continue
            assert version >= self.shown.get(key, 0), "an older state came back"
            assert version > self.ended.get(key, 0), "a deleted object came back"
            self.shown[key] = version

    def teardown(self):
        while self.lists:
            self.a_list_arrives()
        while self.told < len(self.log):
            self.an_event_arrives()
        for version, key in self.answers:
            self.store.wrote(item(key, version))
        assert dict(self.store.items()) == self.live, "not what the server has"


TestOrderings = Orderings.TestCase
TestOrderings.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
