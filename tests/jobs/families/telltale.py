"""The family of texts beside this file, that repeats what it cannot make sense of, in plain words and without quotes."""

from pathlib import Path

import lengths

INPUTS = lengths.INPUTS
BAD = "nonsense"


def bundle(folder: Path) -> Path:
    made = lengths.bundle(folder)
    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace("family: lengths", "family: telltale"))
    return made


def open_model(found, device, module, precision):
    made = lengths.open_model(found, device, module, precision)
    made.__class__ = Telltale
    return made


class Telltale(lengths.Lengths):
    def encode(self, batch):
        for text in batch.column("text").to_pylist():
            if BAD in text:
                raise ValueError(f"there are no words for {text} in this model")
        return super().encode(batch)
