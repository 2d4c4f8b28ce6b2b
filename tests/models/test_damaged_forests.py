"""Files cut off, flipped and altered: each is a forest still, or is refused in one sentence. Never does a process end or hang.

In a process of its own: loaders are written in C++.
"""

import random
import subprocess
import sys
import textwrap
import warnings
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
skops = pytest.importorskip("skops.io")
pytest.importorskip("treelite")

DATA = Path(__file__).parents[3] / "shared" / "data" / "models"
TRY = """
import sys, signal, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from scoring.models.foreign_trees.read import Asked, read_forest
from scoring.errors import ModelError
from scoring import ops
for path in sorted(Path(sys.argv[1]).iterdir()):
    signal.alarm(30)
    try:
        found = read_forest(str(path), Asked())
        make = ops.trees()
        make.pack(found.trees, make.Ranking.of(found.trees, len(found.inputs)), perfect=False)
        print(path.name, "read")
    except ModelError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        print(path.name, "refused")
"""


def altered(data, chance):
    """One of many ways to damage bytes; digits are changed most, as most of them are numbers that something walks along."""
    data = bytearray(data)
    way = chance.choice(["cut", "flip", "digit", "digit", "digit", "gap"])
    if way == "cut":
        return bytes(data[: chance.randrange(len(data))])
    if way == "gap":
        start = chance.randrange(len(data))
        del data[start : start + chance.choice([1, 2, 40, 400])]
        return bytes(data)
    digits = [place for place, byte in enumerate(data) if 48 <= byte < 58]
    for _ in range(chance.choice([1, 3])):
        if way == "digit" and digits:
            data[chance.choice(digits)] = chance.choice(b"0123456789-")
        else:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def in_archive(data, chance):
    """The same for a file within an archive, whose checksum is right again."""
    out = BytesIO()
    with ZipFile(BytesIO(data)) as there, ZipFile(out, "w") as here:
        names = there.namelist()
        victim = chance.choice([*names, "schema.json", "schema.json"])
        for name in names:
            content = there.read(name)
            here.writestr(name, altered(content, chance) if name == victim else content)
    return out.getvalue()


def made(folder):
    """A small model in each format."""
    chance = np.random.default_rng(1)
    x = chance.standard_normal((300, 4))
    x[:, 0] = chance.integers(0, 9, 300)
    y = ((x[:, 1] > 0) | (x[:, 0] == 3)).astype(int)
    params = {"objective": "binary", "verbose": -1, "num_leaves": 6, "min_data_per_group": 2, "num_threads": 1}
    lightgbm.train(params, lightgbm.Dataset(x, y, categorical_feature=[0]), 3).save_model(folder / "lightgbm.txt")
    params = {"objective": "binary:logistic", "booster": "dart", "max_depth": 2, "max_cat_to_onehot": 1, "nthread": 1}
    given = xgboost.DMatrix(x, y, feature_types=["c", "q", "q", "q"])
    for form in ("json", "ubj"):
        xgboost.train(params, given, 3).save_model(folder / f"xgboost.{form}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn import ensemble

        skops.dump(ensemble.RandomForestClassifier(2, max_depth=2, random_state=1).fit(x, y), folder / "forest.skops")
        skops.dump(ensemble.GradientBoostingClassifier(n_estimators=2, max_depth=2).fit(x, y), folder / "boosted.skops")
        skops.dump(ensemble.IsolationForest(n_estimators=2, max_samples=16, random_state=1).fit(x), folder / "isolation.skops")
        by_code = ensemble.HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=4, categorical_features=[0])
        skops.dump(by_code.fit(x, y), folder / "histogram.skops")


def test_damage_is_refused_and_ends_no_process(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "damaged").mkdir()
    made(tmp_path / "whole")
    files = sorted((tmp_path / "whole").iterdir())
    if (binary := DATA / "xgboost_predictor_java/gbtree_spark_iris/model.xgb.bin").is_file():
        files.append(binary)
    chance = random.Random(1)
    for path in files:
        for place in range(25):
            data = path.read_bytes()
            data = in_archive(data, chance) if path.suffix == ".skops" else altered(data, chance)
            (tmp_path / "damaged" / f"{place}-{path.name}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRY), str(tmp_path / "damaged")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    last = (done.stdout.splitlines() or ["the first"])[-1]
    assert done.returncode == 0, f"after {last}: {done.stderr[-2_000:]}"
    assert done.stdout.count(" refused\n") > done.stdout.count(" read\n") > 0
