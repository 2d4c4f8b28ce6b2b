"""From a folder to a model that has proved itself on its device."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from scoring import ops
from scoring.errors import ConfigError, ModelError
from scoring.models import Model
from scoring.models.bundle import read
from scoring.models.golden import check_golden
from scoring.parts import names, part


def load(bundle: str | Path, device: str | torch.device = "cpu", module: str | None = None) -> Model:
    """Read a bundle, build its model on `device` and check its golden scores there.

    `module` ("package.module:Class") is for the module family: code is named by the user, never by a bundle.

    Raises:
        ModelError: the bundle is missing, altered, unsafe, of an unknown family, or does not give its golden scores.
    """
    found = read(bundle)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", found.family):
        raise ModelError(f"Bundle {found.name}: {found.family!r} is not the name of a family.")
    try:
        family = part("models", found.family)
    except ConfigError:
        family = None
    if not hasattr(family, "open_model"):
        raise ModelError(f"Bundle {found.name}: there is no family {found.family!r}. Known: {', '.join(_families())}.")
    model: Model = family.open_model(found, torch.device(device), module)  # type: ignore[union-attr]
    golden = found.golden(model.outputs)
    try:
        check_golden(model, golden)
    except ModelError as error:
        if not ops.kernels_given_up(error.__cause__):
            raise
        check_golden(model, golden)
    return model


def _families() -> list[str]:
    """The files of this room that can open a bundle."""
    return [name for name in names("models") if hasattr(part("models", name), "open_model")]
