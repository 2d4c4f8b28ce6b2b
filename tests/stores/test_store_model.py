"""Every store behaves like a dictionary whose entries never change, whatever is asked of it in whatever order."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from scoring.errors import StoreError

NAMES = st.sampled_from(["a", "b", "a/b", "a/c/d", "ab/c", "date=1/x.json", "date=1/y", "key with blank/%41"])
DATA = st.binary(max_size=40)


class StoreMachine(RuleBasedStateMachine):
    make = None

    def __init__(self):
        super().__init__()
        self.store = type(self).make()
        self.model = {}

    @rule(name=NAMES, data=DATA, from_file=st.booleans())
    def put(self, name, data, from_file):
        given = data
        if from_file:
            given = self.store.spool("x")
            given.write_bytes(data)
        key = f"w/{name}.o"
        assert self.store.put(key, given) is (key not in self.model)
        self.model.setdefault(key, data)

    @rule(name=NAMES, data=DATA)
    def replace(self, name, data):
        key = f"advice/{name}.o"
        before = self.store.get(key) if self.store.exists(key) else None
        stamp = self.store.stamp(key)
        assert (stamp is None) is (before is None)
        self.store.replace(key, data)
        assert self.store.get(key) == data
        assert self.store.stamp(key) == self.store.stamp(key)
        assert before == data or self.store.stamp(key) != stamp

    @rule(name=NAMES)
    def read(self, name):
        key = f"w/{name}.o"
        if key in self.model:
            assert self.store.get(key) == self.model[key]
            assert self.store.size(key) == len(self.model[key])
        else:
            assert self.store.size(key) is None
            try:
                self.store.get(key)
            except (StoreError, FileNotFoundError):
                return
            raise AssertionError("read what is not there")

    @rule(name=NAMES)
    def remove(self, name):
        self.store.remove(f"w/{name}.o")
        self.model.pop(f"w/{name}.o", None)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), to=NAMES)
    def copy(self, data, to):
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.store.copy(key, f"w/{to}.o")
        self.model.setdefault(f"w/{to}.o", self.model[key])

    @rule(part=st.sampled_from(["", "/a", "/a/c", "/ab", "/date=1", "/none"]))
    def listing(self, part):
        wanted = sorted(key for key in self.model if key.startswith(f"w{part}/"))
        assert list(self.store.list(f"w{part}")) == wanted
        below = {key[len(f"w{part}/") :].split("/")[0] for key in wanted if "/" in key[len(f"w{part}/") :]}
        # a folder that was emptied may stay on disk
        assert below <= set(self.store.folders(f"w{part}")) or not below

    @invariant()
    def nothing_else(self):
        assert list(self.store.list("w")) == sorted(self.model)


def test_stores_are_one_model(make_store, request):
    machine = type("Machine", (StoreMachine,), {"make": staticmethod(make_store)})
    examples, steps = (6, 15) if "s3" in request.node.name else (40, 25)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
    )
