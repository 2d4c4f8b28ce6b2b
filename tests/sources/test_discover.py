"""Listing: what counts as a file, what key it gets, what is refused; keys are safe names whatever a folder is called."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ConfigError, SourceError
from scoring.settings import Source
from scoring.sources.discover import decode_part, discover, encode_part, local, partitions

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
SAFE = set(string.ascii_letters + string.digits + "_.-%~")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(path: Path | str, **more: object) -> dict[str, list[str]]:
    listed = partitions(Source(kind="parquet", path=str(path), **more), (".parquet",))
    return {p.key: [os.path.basename(f.path) for f in p.files] for p in listed}


@given(NAMES)
def test_an_encoded_part_is_a_safe_name_and_reads_back(text: str) -> None:
    encoded = encode_part(text)
    assert set(encoded) <= SAFE
    assert len(encoded) <= 200
    if "~" not in encoded:
        assert decode_part(encoded) == text


@given(st.lists(st.one_of(NAMES, st.text("aé%~/.\0", min_size=60, max_size=250)), unique=True))
def test_two_parts_never_share_an_encoding(texts: list[str]) -> None:
    assert len({encode_part(text) for text in texts}) == len(texts)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_key_stays_inside_the_root(value: str) -> None:
    root = Path("/workspace/scores")
    target = root / f"{encode_part(value)}={encode_part('../' + value)}"
    assert Path(os.path.normpath(target)).parent == root


def test_hive_folders_become_keys_whatever_lies_between(tmp_path: Path) -> None:
    touch(
        tmp_path, "date=2026-01-02/h=1/b.parquet", "date=2026-01-02/h=1/a.parquet", "date=2026-01-01/x/h=2/c.PARQUET", "d.parquet"
    )
    assert found(tmp_path) == {
        "all": ["d.parquet"],
        "date=2026-01-01/h=2": ["c.PARQUET"],
        "date=2026-01-02/h=1": ["a.parquet", "b.parquet"],
    }
    assert list(found(tmp_path, hive=False)) == ["all"]


def test_hive_values_are_decoded_and_encoded_again(tmp_path: Path) -> None:
    touch(tmp_path, "c=a%2Fb/1.parquet", "c=a b/2.parquet", "c=%2E%2E/3.parquet")
    assert set(found(tmp_path)) == {"c=a%2Fb", "c=a%20b", "c=.."}


def test_a_folder_leaves_out_what_is_no_data_and_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "_SUCCESS", ".a.parquet.crc", "_temporary/b.parquet", "readme.md", "sub/c.txt")
    listed = discover(Source("parquet", str(tmp_path)), (".parquet",))
    assert [os.path.basename(f.path) for f in listed.partitions[0].files] == ["a.parquet"]
    assert [os.path.basename(name) for name in listed.ignored] == ["readme.md", "c.txt"]


def test_a_file_and_a_glob_are_taken_as_named(tmp_path: Path) -> None:
    touch(tmp_path, "odd.name", "date=1/a.dat", "date=2/b.dat", "date=2/c.parquet")
    assert found(tmp_path / "odd.name") == {"all": ["odd.name"]}
    assert found(tmp_path / "date=*/*.dat") == {"date=1": ["a.dat"], "date=2": ["b.dat"]}
    assert found(tmp_path / "date=*") == {"date=2": ["c.parquet"]}
    assert found(f"{tmp_path}/**/*.dat") == {"date=1": ["a.dat"], "date=2": ["b.dat"]}


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.parquet", "elsewhere/b.parquet")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/up").symlink_to(tmp_path)
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/broken.parquet").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "data/pipe.parquet")
    listed = discover(Source("parquet", str(tmp_path / "data")), (".parquet",))
    assert "b.parquet" in [os.path.basename(f.path) for f in listed.partitions[0].files]
    assert {"loop", "broken.parquet", "pipe.parquet"} <= {os.path.basename(name) for name in listed.ignored}
    assert len(listed.partitions[0].files) < 6


@pytest.mark.parametrize("path", ["s3://bucket/x", "http://169.254.169.254/", "gs://b", "hdfs://n/x", "file://host/x"])
def test_other_schemes_are_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read, only local paths"):
        partitions(Source("parquet", path), (".parquet",))


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "with blank.parquet")
    assert found(f"file://{tmp_path}/with%20blank.parquet") == {"all": ["with blank.parquet"]}
    assert local("file:///a/b") == "/a/b"


@pytest.mark.parametrize("name", ["absent", "absent/*.parquet", "."])
def test_nothing_to_read_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises((ConfigError, SourceError), match=r"there is no|no files to read"):
        found(tmp_path / name)


def test_a_version_changes_with_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet")
    before = partitions(Source("parquet", str(tmp_path)), (".parquet",))[0]
    os.utime(tmp_path / "a.parquet", ns=(1, 1))
    after = partitions(Source("parquet", str(tmp_path)), (".parquet",))[0]
    assert before.input_digest != after.input_digest


def test_nothing_is_opened(tmp_path: Path) -> None:
    touch(tmp_path, *(f"k={n % 3}/{n}.parquet" for n in range(30)))
    code = (
        "import sys\n"
        "from scoring.settings import Source\n"
        "from scoring.sources.discover import partitions\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'open' else None)\n"
        "partitions(Source('parquet', sys.argv[1]), ('.parquet',))\n"
        "sys.exit(any(str(name).endswith('.parquet') for name in opened))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0
