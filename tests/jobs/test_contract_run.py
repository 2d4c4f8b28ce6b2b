"""Contracts through whole runs: three places they come from, what they hold, what they tell, and that splits do not matter."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import scoring
from scoring.errors import ChangedError, ConfigError
from scoring.models.train import Recipe, Target, fit
from scoring.types import Receipt

ROWS = 4_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two days in two files each; on the second, 7 ids come twice, across files, and x is beyond lim for some rows of group a."""
    folder = tmp_path_factory.mktemp("contract")
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=ROWS), rng.choice(["a", "b", "c"], ROWS)
    table = pa.table({"id": np.arange(ROWS), "x": x, "group": group, "lim": x + 1, "label": (x > 0).astype(np.int64)})
    fit(table, folder / "bundle", numeric=["x"], categorical=["group"], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    for day, first in (("2026-01-01", 0), ("2026-01-02", ROWS // 2)):
        part = table.slice(first, ROWS // 2)
        if first:
            ids, lim = part["id"].to_numpy().copy(), part["lim"].to_numpy().copy()
            ids[1500:1507] = ids[100:107]
            lim[(np.array(part["group"].to_pylist()) == "a") & (np.arange(ROWS // 2) % 3 == 0)] -= 5
            part = part.set_column(0, "id", pa.array(ids)).set_column(3, "lim", pa.array(lim))
        target = folder / "data" / f"date={day}"
        target.mkdir(parents=True)
        for n in range(2):
            pq.write_table(part.slice(n * ROWS // 4, ROWS // 4), target / f"part-{n}.parquet", row_group_size=300)
    return folder


BASE = ["contract.columns.id={dtype: int64, role: id}", "contract.columns.lim={dtype: float64}", "release.max_bad_share=null"]
RULE = "contract.rules.within={sql: 'x <= lim'}"


def run(place, workspace, *more, data=None):
    given = ["source=parquet", f"source.path={data or place / 'data'}", "source.carry=[id]", f"model.bundle={place}/bundle"]
    return scoring.run([*given, "engine=inline", f"workspace={workspace}", *more])


def checks(record, day="date=2026-01-02"):
    (partition,) = [p for p in record.partitions if p.key == day]
    return {c.name.removeprefix("contract:"): c for c in partition.checks if c.name.startswith("contract:")}


def test_rules_across_columns_quarantine_and_say_whom_they_cost(place, tmp_path):
    record = run(place, tmp_path, *BASE, RULE)
    assert record.status == "published"
    table = pa.concat_tables([pq.read_table(f, partitioning=None) for f in (place / "data").rglob("*.parquet")])
    wrong = int((table["x"].to_numpy() > table["lim"].to_numpy()).sum())
    assert record.reasons == {"admit:rule:within": wrong}
    assert record.rows == {"in": ROWS, "scored": ROWS - wrong, "quarantined": wrong, "suppressed": 0}
    strongest = record.costs[0]
    assert (strongest.rule, strongest.rows, strongest.column, strongest.value) == ("rule:within", wrong, "group", "a")
    assert strongest.share_lost == 1.0
    assert 0.3 < strongest.share_all < 0.37
    assert json.loads(record.to_json())["costs"][0]["value"] == "a"


@pytest.mark.parametrize(
    ("limit", "status"),
    [("{rows: 1}", "held"), ("{share: 0.01, level: warn}", "published-with-warnings"), ("{rows: 4000, share: 0.5}", "published")],
)
def test_limits_of_a_rule_hold_or_warn(place, tmp_path, limit, status):
    record = run(place, tmp_path, *BASE, RULE, rf"contract.limits={{rule\:within: {limit}}}")
    assert [p.status for p in record.partitions] == ["published", status]


def test_a_limit_that_was_raised_publishes_what_was_held_without_scoring_again(place, tmp_path):
    held = run(place, tmp_path, *BASE, RULE, r"contract.limits={rule\:within: {rows: 1}}")
    again = run(place, tmp_path, *BASE, RULE, r"contract.limits={rule\:within: {rows: 4000}}")
    assert (held.status, again.status, again.run_id) == ("held", "published", held.run_id)


def test_a_warning_scores_the_row_and_counts_it(place, tmp_path):
    record = run(place, tmp_path, *BASE, "contract.rules.within={sql: 'x <= lim', level: warn}")
    assert (record.status, record.rows["quarantined"], record.reasons) == ("published-with-warnings", 0, {})
    assert checks(record)["rule:within"].status == "warn"
    assert list(record.warned) == ["rule:within"]


@pytest.mark.parametrize("split", [(300, 256), (100_000, 65_536)])
def test_keys_are_unique_across_files_and_slices(place, tmp_path, split):
    rows = [f"source.slice_rows={split[0]}", f"engine.window_rows={split[1]}"]
    record = run(place, tmp_path, *BASE, "contract.unique=[id]", *rows)
    assert [p.status for p in record.partitions] == ["published", "held"]
    assert checks(record)["unique"].actual.startswith("7 rows, ")
    assert checks(record, "date=2026-01-01")["unique"].actual.startswith("0 rows, ")


def test_how_rows_are_split_does_not_change_what_is_found(place, tmp_path):
    asked = [*BASE, RULE, "contract.unique=[id,group]", "contract.columns.group={dtype: string, allowed: [a, b], level: warn}"]
    found = []
    for slices, windows in ((100, 64), (700, 300), (100_000, 65_536)):
        record = run(place, tmp_path / str(slices), *asked, f"source.slice_rows={slices}", f"engine.window_rows={windows}")
        found.append((record.rows, record.reasons, record.warned, record.costs, [p.checks for p in record.partitions]))
    assert found[0] == found[1] == found[2]


def test_receipts_stay_small_and_know_their_keys(place, tmp_path):
    record = run(place, tmp_path, *BASE, RULE, "contract.unique=[id]")
    receipts = [Receipt.from_json(p.read_bytes()) for p in (tmp_path / "runs" / record.run_id / "receipts").glob("*.json")]
    assert all(len(r.to_json()) < 4_000 for r in receipts)
    assert all(r.found.keys is not None and (tmp_path / r.found.keys.key).is_file() for r in receipts)
    assert sum(r.found.keys.rows for r in receipts) == record.rows["scored"]


def test_columns_that_come_go_or_widen(place, tmp_path):
    table = pq.read_table(place / "data" / "date=2026-01-01" / "part-0.parquet", partitioning=None)
    more = table.append_column("new", pa.nulls(len(table), pa.string())).drop_columns(["label"])
    for day, kept in (("01", more), ("02", more.drop_columns(["lim"]))):
        (tmp_path / "in" / f"date=2026-01-{day}").mkdir(parents=True)
        pq.write_table(kept, tmp_path / "in" / f"date=2026-01-{day}" / "a.parquet")
    pq.write_table(more.slice(0, 5), tmp_path / "in" / "date=2026-01-02" / "b.parquet")  # a day of which nothing is scored is held
    asked = [*BASE, "contract.columns.x={dtype: float32}"]
    record = run(place, tmp_path / "ws", *asked, data=tmp_path / "in")
    assert [p.status for p in record.partitions] == ["published", "held"]
    assert checks(record, "date=2026-01-01")["schema:extra"].actual == "new"
    assert checks(record, "date=2026-01-01")["schema:widened"].actual == "x: float64, not float32"
    assert checks(record)["schema:missing"].actual == "a.parquet: missing columns: lim"
    assert record.rows["quarantined"] == ROWS // 4
    free = run(place, tmp_path / "free", *asked, r"contract.limits={schema\:missing: {level: warn}}", data=tmp_path / "in")
    assert [p.status for p in free.partitions] == ["published", "published-with-warnings"]


def test_a_contract_in_the_bundle_is_part_of_the_model_and_the_job_overrides_it(place, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in (place / "bundle").iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    own = {
        "columns": {"lim": {"dtype": "float64"}},
        "rules": {"within": {"sql": "x <= lim"}},
        "limits": {"rule:within": {"rows": 1}},
    }
    (bundle / "contract.yaml").write_text(yaml.safe_dump(own))
    free = ["release.max_bad_share=null", f"model.bundle={bundle}"]
    assert run(place, tmp_path / "one", *free).status == "held"
    other = run(place, tmp_path / "two", *free, r"contract.limits={rule\:within: {share: 1.0}}")
    assert (other.status, list(other.reasons)) == ("published", ["admit:rule:within"])
    assert other.fingerprint != run(place, tmp_path / "three", *BASE).fingerprint
    (bundle / "contract.yaml").write_text(yaml.safe_dump(own | {"min_rows": 5}))
    with pytest.raises(ChangedError, match="the model changed"):
        run(place, tmp_path / "one", *free)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {r: {sql: \"EXISTS(SELECT 1 FROM read_csv('/etc/passwd'))\"}}", "not allowed in a row rule"),
        ("rules: {r: {sql: 'x > 1', levle: warn}}", "Did you mean 'level'?"),
        ("columns: {x: !!python/object/apply:os.system ['true']}", "not plain YAML"),
        ("columns: [1]", "columns"),
        ("colums: {}", "Did you mean 'columns'?"),
        ("limits: {'x:rnage': {rows: 1}}", "Did you mean 'x:range'?"),
        ("limits: {total: {rows: -1}}", "limits.total.rows must be at least 0"),
        ("unique: [nosuch]", "'nosuch' is no declared column"),
        ("freshness_hours: 3", "needs a column with role: time"),
        ("columns: {x: {dtype: float64, role: time}}", "role time needs a date or a timestamp"),
        ("columns: {a: {dtype: date32, role: time}, b: {dtype: date32, role: time}}", "one column dates a row"),
    ],
)
def test_a_contract_that_cannot_be_is_refused_before_anything_runs(place, tmp_path, text, said):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in (place / "bundle").iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    (bundle / "contract.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        run(place, tmp_path / "ws", f"model.bundle={bundle}")
    assert not list((tmp_path / "ws").rglob("*.parquet"))
