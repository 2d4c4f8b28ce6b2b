"""Three stores that must behave alike: a folder, a bucket in memory, and S3's protocol against a server of our own on loopback."""

import subprocess
import sys
import uuid
import warnings

import pytest
from obstore.store import MemoryStore, S3Store

from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore

_SERVER = """
import socket, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="session")
def s3_endpoint():
    """A moto server in a process of its own; it ends when its standard input does."""
    pytest.importorskip("moto")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    port = process.stdout.readline().decode().strip()
    yield f"http://127.0.0.1:{port}"
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()


def bucket(endpoint: str) -> ObjectStore:
    import boto3

    name = f"b{uuid.uuid4().hex[:12]}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket=name)
        client.close()
    given = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
    inner = S3Store(name, endpoint=endpoint, client_options={"allow_http": True}, virtual_hosted_style_request=False, **given)
    return ObjectStore(f"s3://{name}", inner)


def in_memory() -> ObjectStore:
    return ObjectStore(f"memory://{uuid.uuid4().hex}", MemoryStore())


@pytest.fixture(params=["local", "memory", "s3"])
def make_store(request, tmp_path_factory):
    """Makes a new empty store of a kind."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        return lambda: bucket(endpoint)
    return in_memory if request.param == "memory" else lambda: LocalStore(str(tmp_path_factory.mktemp("w") / "workspace"))


@pytest.fixture
def store(make_store):
    return make_store()
