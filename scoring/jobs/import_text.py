"""An ordinary Hugging Face or sentence-transformers folder becomes a bundle of family `text`; nothing is downloaded or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoring.errors import ConfigError
from scoring.jobs.arguments import Given
from scoring.models.bundle import read
from scoring.models.heads import output_names
from scoring.models.huggingface.model import Asked, Imported, read_model
from scoring.models.write_text import write_text

_WORDS = ("text", "query", "null", "overlong", "store", "prompt", "task")


@dataclass(frozen=True)
class Written:
    """`outputs` are the columns that a job will get; `parameters` the numbers in the weights."""

    out: str
    name: str
    version: str
    digest: str
    encoder: str
    inputs: list[str]
    outputs: list[str]
    max_length: int
    parameters: int


def command(given: Given) -> tuple[Written, int]:
    """Raises: ModelError: the folder holds no model that is supported. ConfigError: `out` is there already, or a word cannot be."""
    path, out = given.needed("path"), given.needed("out")
    for word, own in given.words.items():
        if any("\ud800" <= c <= "\udfff" for c in own) and word not in ("path", "out"):
            raise ConfigError(f"{word}=… is no text: it has bytes that are not UTF-8.")
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise ConfigError(f"{out} is there already; name another folder with out=….")
    said = {word: value for word in _WORDS if (value := given.get(word))}
    longest = given.number("max_length", 0) if given.get("max_length") is not None else None
    found = read_model(path, Asked(max_length=longest, **said))
    name = given.get("name") or Path(path).resolve().name.encode(errors="replace").decode()
    version = given.get("version") or "1"
    try:
        folder = _write(out, name, version, found)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}.") from None
    outputs = [found.embedding.name] if found.embedding is not None else list(output_names(found.heads))
    return (
        Written(
            str(folder),
            name,
            version,
            read(folder).digest,
            found.shape.kind,
            list(found.inputs),
            outputs,
            found.text.max_length,
            sum(tensor.numel() for tensor in found.tensors.values()),
        ),
        0,
    )


def _write(out: str, name: str, version: str, found: Imported) -> Path:
    return write_text(
        out,
        name=name,
        version=version,
        inputs=found.inputs,
        text=found.text,
        encoder=found.shape,
        pooling=found.pooling,
        projections=found.projections,
        unit=found.unit,
        embedding=found.embedding,
        heads=found.heads,
        tensors=found.tensors,
        tokenizer=found.tokenizer,
    )


def render(found: Written) -> str:
    return (
        f"{found.out}: {found.name} {found.version}, {found.encoder} of {found.parameters:,} parameters, at most "
        f"{found.max_length:,} tokens; from {', '.join(found.inputs)} to {', '.join(found.outputs)}\ndigest {found.digest}"
    )
