"""The demo's data: the promised dirt is there, the clean part is clean, and the same seed gives the same bytes."""

import hashlib
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import scoring
from scoring.errors import ConfigError
from scoring.jobs import demo
from scoring.models.load import load

ROWS = 30_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.make(folder, ROWS)
    return folder


def day(folder, number):
    return sorted((folder / "data" / "transactions" / f"date=2026-01-{number:02d}").glob("*.parquet"))


def readable(folder):
    files = [f for number in range(1, 31) for f in day(folder, number)]
    wrong = {day(folder, demo.STRINGS_DAY)[1], day(folder, demo.TRUNCATED_DAY)[1], day(folder, demo.COPY_DAY)[0]}
    return pa.concat_tables([pq.read_table(f, partitioning=None) for f in files if f not in wrong])


def digests(folder):
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()}


def test_thirty_days_of_three_or_four_files(made):
    days = sorted((made / "data" / "transactions").iterdir())
    assert [d.name for d in days] == [f"date=2026-01-{n:02d}" for n in range(1, 31)]
    counts = {n: len(day(made, n)) for n in range(1, 31)}
    assert {n for n, c in counts.items() if c not in (3, 4)} - {demo.COPY_DAY} == {demo.EMPTY_DAY}


def test_every_row_asked_for_is_drawn_once(made):
    ids = readable(made).column("transaction_id").to_numpy()
    lost = [day(made, demo.STRINGS_DAY)[1]]
    ids = np.concatenate([ids, *(pq.read_table(f, partitioning=None).column("transaction_id").to_numpy() for f in lost)])
    assert len(set(ids.tolist())) == len(ids)
    assert 0 < ROWS - len(ids) < ROWS / 29 / 2  # the truncated file is missing


def test_types_and_nulls(made):
    table = readable(made)
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    floats = {"merchant_risk": "float", "distance_km": "float", "minutes_since_last": "float", "amount": "double"}
    texts = dict.fromkeys(("card_id", *demo.CATEGORIES), "string")
    assert kinds == {"transaction_id": "int64", "hour": "int32"} | floats | texts
    nulls = {name for name in table.column_names if table.column(name).null_count}
    assert nulls == {"merchant_risk", "distance_km", "minutes_since_last", "card_type"}


def test_the_dirt_is_quarantined_with_its_reasons_and_nothing_else(made, tmp_path):
    """Against the generator's own truth, day by day: none missed, no good row lost."""
    truth = json.loads((made / "data" / "truth.json").read_text())
    paths = [f"source.path={made}/data/transactions", f"model.bundle={made}/bundle", f"workspace={tmp_path}"]
    record = scoring.run(["job=demo", *paths, "engine=inline"])
    assert record.status == "published-with-warnings"
    totals, days = Counter(), {p.key.removeprefix("date="): p for p in record.partitions}
    assert days.keys() == truth.keys()
    for day, wanted in truth.items():
        lost = sum(wanted["files_lost"].values())
        assert days[day].rows["scored"] == wanted["rows"] - wanted["rows_at_fault"]
        assert days[day].rows["quarantined"] == wanted["rows_at_fault"] + lost
        found = Counter()
        for file in (tmp_path / "quarantine" / f"date={day}").rglob("*.parquet"):
            rows = pq.read_table(file, partitioning=None).select(["_row", "_reasons"]).to_pylist()
            found.update(reason for row in rows if row["_row"] is not None for reason in row["_reasons"])
        assert found == wanted["reasons"]
        totals += found
    assert set(totals) == {"amount:range", "amount:type", "hour:range", "merchant_risk:range", "rule:online_has_no_place"}
    lost = {name for wanted in truth.values() for name in wanted["files_lost"]}
    assert {bad.path.rsplit("/", 1)[1] for bad in record.bad_files} == lost


def test_values_that_cannot_be(made):
    table = readable(made)
    assert pc.any(pc.less(table.column("amount"), 0)).as_py()
    assert pc.any(pc.equal(table.column("hour"), 31)).as_py()
    assert pc.any(pc.greater(table.column("merchant_risk"), 1)).as_py()


def test_one_file_has_amounts_as_text_with_garbage(made):
    texts = pq.read_table(day(made, demo.STRINGS_DAY)[1], partitioning=None).column("amount")
    assert texts.type == pa.string()
    assert set(demo.GARBAGE) <= set(texts.to_pylist())
    assert sum(text in demo.GARBAGE for text in texts.to_pylist()) < len(texts) * 0.05


def test_copied_truncated_and_empty_files(made):
    copies = [f.read_bytes() for f in day(made, demo.COPY_DAY) if "part-0" in f.name]
    assert len(copies) == 2
    assert copies[0] == copies[1]
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(day(made, demo.TRUNCATED_DAY)[1], partitioning=None)
    (empty,) = day(made, demo.EMPTY_DAY)
    assert pq.read_metadata(empty).num_rows == 0


def test_the_world_changes_on_day_21(made):
    ids = {True: [], False: []}
    for number in range(16, 27):
        for file in day(made, number):
            ids[number >= demo.SHIFT_DAY].append(pq.read_table(file, partitioning=None))
    before, after = (pa.concat_tables(ids[late]) for late in (False, True))
    assert pc.quantile(after.column("amount"), 0.5)[0].as_py() > 1.2 * pc.quantile(before.column("amount"), 0.5)[0].as_py()
    online = [pc.mean(pc.equal(t.column("channel"), "online").cast("int8")).as_py() for t in (before, after)]
    assert online[1] > 1.5 * online[0]


def test_unseen_categories_come_but_are_not_in_the_training_table(made):
    known, found = demo.training_table(2_000, 0), readable(made)
    for name, unseen in demo.UNSEEN.items():
        assert unseen not in set(known.column(name).to_pylist())
        assert unseen in set(found.column(name).to_pylist())


def test_the_bundle_tells_fraud_from_trade_and_declares_what_cannot_be(made):
    model = load(made / "bundle")
    assert (model.inputs["amount"].min, model.inputs["amount"].nullable) == (0, False)
    assert (model.inputs["hour"].min, model.inputs["hour"].max) == (0, 23)
    assert all(model.inputs[name].allowed is None for name in demo.CATEGORIES)
    fresh = demo.training_table(20_000, seed=99)
    fraud = fresh.column("fraud").to_numpy()
    assert 0.02 < fraud.mean() < 0.08
    order = model.score(fresh.select(list(model.inputs))).column("score").to_numpy().argsort().argsort()
    chance = (order[fraud].mean() - (fraud.sum() - 1) / 2) / (~fraud).sum()  # the area under the ROC curve
    assert chance > 0.75


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(made, tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        demo.make(tmp_path / name, 3_000, seed)
    one, again, other = (digests(tmp_path / name) for name in ("one", "again", "other"))
    assert again == one
    assert [name for name in one if one[name] == other[name]] == [f"data/transactions/date=2026-01-{demo.EMPTY_DAY}/part-0.parquet"]


def test_made_once_and_never_over_data_of_others(tmp_path):
    demo.make(tmp_path, 3_000)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.parquet")}
    demo.make(tmp_path, 3_000)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.parquet")} == before
    demo.make(tmp_path, 3_001)
    assert json.loads((tmp_path / "data" / "demo.json").read_text())["rows"] == 3_001
    (tmp_path / "data" / "demo.json").unlink()
    with pytest.raises(ConfigError, match="not data of the demo"):
        demo.make(tmp_path, 3_001)
