"""Margins, and for explanations the ranks they came from, to everything that a forest says of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scoring.models.forest_parts import links
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.shape import ForestShape


class Answer:
    """Made once for a model; `cover` is needed where a score is explained."""

    def __init__(self, shape: ForestShape, trees: Any, cover: Cover | None, ranking: Any) -> None:
        self._shape = shape
        self._explainer = None
        if shape.explained:
            from scoring.models.forest_parts.tree_shap import Explainer  # takes a second, and few ask for it

            assert cover is not None
            self._explainer = Explainer(trees, cover, ranking, len(shape.features))

    def outputs(self, margins: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
        """Float64 (rows, margins) and ranks (features, rows) to float64 (rows, sum of widths), as `shape.outputs` has them."""
        shape = self._shape
        found = [links.scores(shape, margins)]
        decided = links.decided(margins) if shape.classes else None
        found += [] if decided is None else [decided[:, None].double()]
        found += [margins] if shape.margin else []
        if self._explainer is not None:
            found.append(self._explained(margins, ranks, decided))
        return torch.cat(found, 1) if len(found) > 1 else found[0]

    def _explained(self, margins: torch.Tensor, ranks: torch.Tensor, decided: torch.Tensor | None) -> torch.Tensor:
        """On the host, where contributions are computed whatever the device."""
        assert self._explainer is not None
        of = None if decided is None else decided.cpu().numpy()
        given = self._explainer.contributions(ranks.cpu().numpy(), of)
        parts = []
        if self._shape.reasons:
            largest = np.argsort(-np.abs(given), axis=1, kind="stable")[:, : self._shape.reasons]
            pairs = np.stack([largest.astype(np.float64), np.take_along_axis(given, largest, 1)], 2)
            wide = np.zeros((len(given), self._shape.reasons, 2))  # beyond the last feature: the first, with nothing
            wide[:, : pairs.shape[1]] = pairs
            parts.append(wide.reshape(len(given), -1))
        if self._shape.contributions:
            expected = self._explainer.expected[np.zeros(len(given), np.int64) if of is None else of]
            parts += [given, expected[:, None]]
        return torch.from_numpy(np.concatenate(parts, 1)).to(margins.device)
