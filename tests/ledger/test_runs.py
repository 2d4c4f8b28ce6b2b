"""A run goes on under its id until it has ended; another fingerprint is another run; no secret stays in its folder."""

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from scoring.errors import ChangedError, ConfigError, StoreError
from scoring.ledger import runs
from scoring.ledger.account import Account
from scoring.redact import HIDDEN, is_secret, redact, scrub
from scoring.stores.objects import ObjectStore

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def store():
    return ObjectStore("memory://runs", MemoryStore())


def end(store, run_id, status):
    runs.finish(store, Account().record(run_id, status, 1.0, environment={}))


def test_a_new_run_has_a_time_and_a_fingerprint_in_its_name(store):
    run_id, resumed = runs.start(store, ONE, None, "a: 1")
    assert re.fullmatch(r"\d{8}T\d{9}-1{6}", run_id)
    assert not resumed
    assert json.loads(store.get(f"runs/{run_id}/run.json"))["fingerprint"] == ONE


@pytest.mark.parametrize("status", ["paused", "failed", "held", None])
def test_what_did_not_end_goes_on(store, status):
    run_id, _ = runs.start(store, ONE, None, "")
    if status:
        end(store, run_id, status)
    assert runs.start(store, ONE, None, "") == (run_id, True)
    assert runs.start(store, TWO, None, "")[1] is False


@pytest.mark.parametrize("status", ["published", "published-with-warnings"])
def test_what_ended_does_not(store, status):
    run_id, _ = runs.start(store, ONE, "first", "")
    end(store, run_id, status)
    assert runs.record(store, run_id)["status"] == status
    assert runs.start(store, ONE, None, "")[0] != run_id


def test_the_newest_of_several_goes_on(store):
    for name in ("b", "a"):
        runs.start(store, ONE, name, "")
        store.replace(
            f"runs/{name}/run.json",
            json.dumps({"run_id": name, "fingerprint": ONE, "started": "z" if name == "b" else "y"}).encode(),
        )
    assert runs.start(store, ONE, None, "") == ("b", True)


def test_a_name_belongs_to_one_fingerprint(store):
    assert runs.start(store, ONE, "mine", "") == ("mine", False)
    assert runs.start(store, ONE, "mine", "") == ("mine", True)
    with pytest.raises(ChangedError, match="mine belongs to a run with another"):
        runs.start(store, TWO, "mine", "")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a" * 65, "a b", "ü", "a\0", "a\n"])
def test_evil_names_are_refused(store, name):
    with pytest.raises(ConfigError, match="is no name"):
        runs.start(store, ONE, name, "")


def test_a_damaged_run_is_named(store):
    runs.start(store, ONE, "mine", "")
    store.replace("runs/mine/run.json", b"{")
    with pytest.raises(StoreError, match=r"runs/mine/run.json is damaged"):
        runs.start(store, ONE, "mine", "")


def test_secrets_do_not_stay_with_the_run(store):
    config = {
        "source": {"path": "https://user:hunter2@host/x", "options": {"api_key": "hunter2", "nested": {"Password": ["hunter2"]}}},
        "model": {"tokenizer": "bert", "token": "${oc.env:TOKEN}", "accessToken": "hunter2", "aws_secret_access_key": "hunter2"},
        "monkey": "kept",
    }
    runs.start(store, ONE, "mine", yaml.safe_dump(config))
    text = store.get("runs/mine/config.yaml").decode()
    assert "hunter2" not in text
    kept = yaml.safe_load(text)
    assert kept["monkey"] == "kept"
    assert kept["model"]["tokenizer"] == "bert"
    assert kept["model"]["token"] == "${oc.env:TOKEN}"
    assert kept["source"]["path"] == f"https://{HIDDEN}@host/x"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=12,
    )
)
def test_nothing_but_secrets_is_changed(value):
    config = yaml.safe_dump(value)
    found = yaml.safe_load(redact(config))
    if "@" not in config and not any(is_secret(key) for key in keys(value)):
        assert found == yaml.safe_load(config)
    planted = yaml.safe_dump({"a": [{"db_password": "pl4nted"}], "b": value})
    assert "pl4nted" not in redact(planted)


def keys(value):
    if isinstance(value, dict):
        return [*value, *(k for v in value.values() for k in keys(v))]
    return [k for v in value for k in keys(v)] if isinstance(value, list) else []


def test_what_cannot_be_parsed_is_not_shown():
    assert "hunter2" not in redact("password: [hunter2")


def test_where_the_shell_stands_is_no_secret(monkeypatch):
    """PWD is no password: paths below the folder of the shell are said as they are."""
    monkeypatch.setenv("PWD", "/data/of/ours")
    monkeypatch.setenv("OLDPWD", "/data/before")
    monkeypatch.setenv("THEIR_PWD", "correct horse")
    said = "/data/of/ours/a.parquet, /data/before/b.parquet, correct horse"
    assert scrub(said) == "/data/of/ours/a.parquet, /data/before/b.parquet, ***"
