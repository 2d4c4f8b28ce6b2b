"""From a folder to a model that has proved itself on its device."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from scoring import ops, settings
from scoring.errors import ConfigError, ModelError
from scoring.models import Model
from scoring.models.bundle import read
from scoring.models.golden import check_golden
from scoring.models.precision import tolerance
from scoring.parts import names, part
from scoring.settings import Precision


def load(bundle: str | Path, device: str | torch.device = "cpu", module: str | None = None, precision: Precision = "auto") -> Model:
    """Read a bundle, build its model on `device` and check its golden scores there.

    `module` ("package.module:Class") is for the module family: code is named by the user, never by a bundle.
    `precision` is what products are computed in; golden scores are held to the tolerance that it has.

    Raises:
        ModelError: the bundle is missing, altered, unsafe, of an unknown family, or does not give its golden scores; or its family
            does not compute in that precision.
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
    model: Model = family.open_model(found, torch.device(device), module, precision)  # type: ignore[union-attr]
    golden, limit = found.golden(model.outputs), tolerance(found.tolerance, model.device.type != "cpu", precision)
    try:
        check_golden(model, golden, limit)
    except ModelError as error:
        if not ops.kernels_given_up(error.__cause__):
            raise
        check_golden(model, golden, limit)
    return model


def load_asked(asked: settings.Model, device: str = "cpu") -> Model:
    """The model that a job names. Raises: as `load` does."""
    return load(asked.bundle, device, asked.module, asked.precision)


def _families() -> list[str]:
    """The files of this room that can open a bundle."""
    return [name for name in names("models") if hasattr(part("models", name), "open_model")]
