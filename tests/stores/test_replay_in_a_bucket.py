"""A run whose workspace is a bucket is replayed from there, and leaves nothing."""

import uuid
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import scoring
from scoring.__main__ import kept
from scoring.jobs.replay import replay
from scoring.models.train import Recipe, Target, fit
from scoring.stores import open_store


def test_scores_in_a_bucket_come_out_again(s3_endpoint, monkeypatch, tmp_path):
    import boto3

    name = f"b{uuid.uuid4().hex[:12]}"
    given = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    for key, value in (given | dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")).items():
        monkeypatch.setenv(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=name)
        client.close()
    x = np.random.default_rng(0).normal(size=900)
    table = pa.table({"id": np.arange(900), "x": np.where(np.arange(900) % 50, x, 99.0), "label": (x > 0).astype(np.int64)})
    fit(table, tmp_path / "bundle", numeric=["x"], categorical=[], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "f.parquet", row_group_size=100)
    words = ["source=parquet", f"source.path={tmp_path}/data", "source.carry=[id]", f"model.bundle={tmp_path}/bundle"]
    words += [f"workspace=s3://{name}/w", "engine=inline", "source.slice_rows=300", "contract.columns.x={dtype: float64, max: 50}"]
    record = scoring.run([*words, "hardware.memory_per_lane_gb=0.3"])
    assert record.rows["scored"] == 882
    store = open_store(f"s3://{name}/w")
    before = [key for root in ("scores", "runs", "ledger") for key in store.list(root)]
    found = replay(f"s3://{name}/w", record.run_id, kept, sample=500)
    assert (found.status, found.rows.bit_equal, found.carried) == ("reproduced", 500, 0)
    assert [key for root in ("scores", "runs", "ledger") for key in store.list(root)] == before
