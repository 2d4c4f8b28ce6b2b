"""A reply that was lost does not make a winner a loser, nor a loser a winner."""

import time
import uuid
import warnings

import obstore
import pytest
from fault_proxy import FaultProxy
from obstore.store import MemoryStore, S3Store

from scoring.errors import BusyError, StoreError
from scoring.stores import open_store, probe
from scoring.stores.lease import lease
from scoring.stores.objects import ObjectStore

GIVEN = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1", "virtual_hosted_style_request": False}


@pytest.fixture
def name(s3_endpoint):
    import boto3

    bucket = f"b{uuid.uuid4().hex[:12]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = boto3.client(
            "s3", endpoint_url=s3_endpoint, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
        )
        client.create_bucket(Bucket=bucket)
        client.close()
    return bucket


@pytest.fixture
def proxy(s3_endpoint):
    proxy = FaultProxy(s3_endpoint)
    yield proxy
    proxy.close()


def through(endpoint, name, slept=None):
    inner = S3Store(name, endpoint=endpoint, client_options={"allow_http": True}, retry_config={"max_retries": 0}, **GIVEN)
    return ObjectStore(f"s3://{name}", inner, sleep=(slept if slept is not None else []).append)


@pytest.mark.parametrize("faults", [["drop-reply"], ["503", "drop-reply"], ["drop-reply", "drop-reply"], ["409"], ["503"] * 4])
def test_the_first_writer_wins_whatever_happens_to_its_replies(proxy, name, s3_endpoint, faults):
    slept = []
    proxy.faults = list(faults)
    assert through(proxy.endpoint, name, slept).put("a/b", b"mine") is True
    assert through(s3_endpoint, name).get("a/b") == b"mine"
    assert proxy.faults == []
    assert all(0 <= s <= 10 for s in slept)


def test_the_second_writer_loses_whatever_happens_to_its_replies(proxy, name, s3_endpoint):
    direct = through(s3_endpoint, name)
    assert direct.put("a/b", b"first")
    proxy.faults = ["drop-reply", "503"]
    assert through(proxy.endpoint, name).put("a/b", b"second") is False
    assert direct.get("a/b") == b"first"


def test_equal_content_of_another_is_not_ours(name, s3_endpoint):
    store = through(s3_endpoint, name)
    assert [store.put("k", b"same"), store.put("k", b"same")] == [True, False]


def test_trouble_without_end_is_an_error_that_names_the_object(proxy, name):
    proxy.faults = ["503"] * 100
    with pytest.raises(StoreError, match=r"a/b.*tried 6 times"):
        through(proxy.endpoint, name).put("a/b", b"x")


def test_no_bucket_is_an_error_at_once(s3_endpoint):
    with pytest.raises(StoreError):
        through(s3_endpoint, "nosuchbucket").put("a", b"x")


def test_the_probe_finds_a_store_that_ignores_the_condition(name, s3_endpoint):
    store = through(s3_endpoint, name)
    probe(store)
    assert list(store.list("runs")) == []
    store.put = lambda key, data: store.replace(key, data) or True  # what an old server does: no If-None-Match
    with pytest.raises(StoreError, match="cannot do conditional create"):
        probe(store)


def test_the_store_that_a_url_names_is_configured_by_the_environment(name, s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = open_store(f"s3://{name}/below/here")
    probe(store)
    assert store.put("a/b", b"x")
    assert through(s3_endpoint, name).get("below/here/a/b") == b"x"


def test_a_lease_is_taken_over_only_when_it_is_old(name, s3_endpoint):
    inner = through(s3_endpoint, name)._inner
    with lease(inner, "s3://x", {"run": "one"}):
        with pytest.raises(BusyError, match=r"one \(pid \d+ on"), lease(inner, "s3://x", {"run": "two"}):
            pass
        with lease(inner, "s3://x", {"run": "three"}, lease_s=-10):  # as if the clock had moved on
            pass
    with lease(inner, "s3://x", {"run": "four"}):
        pass


def test_a_holder_keeps_its_lease_fresh_and_leaves_one_that_was_taken_over():
    inner = MemoryStore()
    with lease(inner, "memory://x", {"run": "one"}, beat_s=0.001):
        began = obstore.head(inner, ".lock")["last_modified"]
        deadline = time.monotonic() + 20
        while obstore.head(inner, ".lock")["last_modified"] == began:
            assert time.monotonic() < deadline, "no sign of life"
        obstore.put(inner, ".lock", b"another's")
    assert bytes(obstore.get(inner, ".lock").bytes()) == b"another's"
