"""Which library wrote a file, told from its first bytes: loaders never see what they were not made for."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Literal

from scoring.errors import ModelError, told

Kind = Literal["xgboost-json", "xgboost-ubjson", "xgboost-legacy", "lightgbm", "skops"]
MOST_BYTES = 2 << 30
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth")
_SAVE = {
    "xgboost": "save it with save_model('model.json') or ('model.ubj')",
    "lightgbm": "save it with save_model('model.txt')",
    "skops": "save the estimator with skops.io.dump where it is trusted",
}
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (  # what is refused by name, and what to do
    (b"booster[", f"a text dump of XGBoost (dump_model), which has no objective and no base score; {_SAVE['xgboost']}"),
    (b"[", f"a JSON dump of XGBoost (dump_model), which has no objective and no base score; {_SAVE['xgboost']}"),
    (b"Tree=", f"a piece of a LightGBM model without its head; {_SAVE['lightgbm']}"),
    (b"bs64", f"a base64 form of XGBoost before 1.0; load it with that version and {_SAVE['xgboost']}"),
    (b"\xac\xed\x00\x05", "a serialised Java object, and none is opened; save the native model of the booster in it"),
    (b"\0\x05_cls_", "a wrapper of XGBoost for Spark or Java around a binary model; save the native model of the booster in it"),
    (b"\0\x05_reg_", "a wrapper of XGBoost for Spark or Java around a binary model; save the native model of the booster in it"),
    (b"CBM1", "a CatBoost model, which is not supported"),
    (b"<", "XML or PMML, which is not read; save the model in the native format of its library"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard; unpack it first"),
    (b"\x89HDF", "HDF5, which holds no forest that is known"),
)


def read_file(path: str) -> bytes:
    """Raises: ModelError: not there, not readable, too large."""
    file = Path(path)
    if file.is_dir():
        raise ModelError(f"{path} is a folder; a forest is imported from the one file that its library saved.")
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; at most {MOST_BYTES:,} are read.")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or told(error)}.") from None


def sniff(path: str, data: bytes) -> Kind:
    """Raises: ModelError: what the file is instead, or that nothing is known that begins so."""
    _refuse_pickles(path, data)
    if data.startswith(b"PK\x03\x04"):
        return _zipped(path, data)
    if data.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    start = data[:64].lstrip(b" \t\r\n\xef\xbb\xbf")
    if start[:1] == b"{":
        return "xgboost-json" if start[1:2] in (b'"', b" ", b"\t", b"\r", b"\n", b"}") else "xgboost-ubjson"
    for beginning, found in _BEGINNINGS:
        if start.startswith(beginning):
            raise ModelError(f"{path} is {found}.")
    if Path(path).suffix == ".onnx" or (data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x1a", b":")):
        raise ModelError(f"{path} is an ONNX model, which is not read; import the file that its library saved.")
    return "xgboost-legacy"  # has no mark of its own: its reader checks it from end to end


def _refuse_pickles(path: str, data: bytes) -> None:
    pickled = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if pickled or Path(path).suffix.lower() in _PICKLES:
        raise ModelError(
            f"{path} is a pickle, which can run code when it is read, so that none is opened; where it is trusted, "
            f"{_SAVE['skops']}, or the booster with save_model."
        )


def _zipped(path: str, data: bytes) -> Kind:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if "schema.json" in archive.namelist():
                return "skops"
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ModelError(f"{path} is a damaged archive: {told(error)}.") from None
    raise ModelError(f"{path} is an archive without schema.json, which skops writes: it holds no scikit-learn estimator.")
