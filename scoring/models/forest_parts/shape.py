"""What model.yaml says of a forest beside its trees: how values are read, and what the sums of leaves mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from scoring.errors import ModelError
from scoring.models.bundle import check_outputs
from scoring.models.manifest import Fields
from scoring.types import Output

Link = Literal[
    "identity", "sigmoid", "hinge", "exponential", "signed_square", "log1p_exp", "anomaly", "softmax", "one_vs_all", "probabilities"
]
LINKS: tuple[Link, ...] = (
    "identity", "sigmoid", "hinge", "exponential", "signed_square", "log1p_exp", "anomaly",
    "softmax", "one_vs_all", "probabilities",
)  # fmt: skip
OF_CLASSES = ("softmax", "one_vs_all", "probabilities")
MOST_REASONS = 32


@dataclass(frozen=True)
class Feature:
    """One feature of the trees, read from the input `column`.

    Numeric; or categorical, where the code of a value is its place in `categories` (strings or int64), or, without these, the
    integer itself. A value outside `categories` counts as missing; a negative code or one that no split knows goes right.
    """

    column: str
    categorical: bool = False
    categories: pa.Array[Any] | None = None


@dataclass(frozen=True)
class ForestShape:
    """`features` in the order of the trees' feature numbers.

    `rounded`: values are rounded to float32 before they are compared, as XGBoost and most of scikit-learn do; else float64 is
    compared. `smallest`: a value of this magnitude or less is 0 (LightGBM: 1e-35). `link` maps margins to scores; `alpha` is its
    parameter: the slope of sigmoid and one_vs_all, c of anomaly, 2^(-x / c). `classes` are named where `link` is of classes.
    `margin`: margins are outputs, too. `reasons`: how many reason codes a row gets; `contributions`: those of all features are an
    output, then the expected margin.
    """

    features: tuple[Feature, ...]
    rounded: bool
    link: Link
    margins: int = 1
    smallest: float = 0.0
    alpha: float = 1.0
    classes: tuple[str, ...] = ()
    margin: bool = False
    reasons: int = 0
    contributions: bool = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Scores; the class, where there are several; then what was asked for beside them.

        `score`, or `score_<n>` of several targets, or `probability_<class>` and `class`, the most probable one, first of equals;
        `margin`, or one for each; `reason_<n>` and `contribution_<n>`, largest magnitude first, of the class that was decided for;
        `contributions` of all features, and last the expected margin.
        """
        names = [f"probability_{name}" for name in self.classes] or self._numbered("score")
        found = [Output(name) for name in names]
        found += [Output("class", labels=self.classes)] if self.classes else []
        if self.margin:
            found += [Output(name) for name in ([f"margin_{name}" for name in self.classes] or self._numbered("margin"))]
        columns = tuple(feature.column for feature in self.features)
        for place in range(1, self.reasons + 1):
            found += [Output(f"reason_{place}", labels=columns), Output(f"contribution_{place}")]
        if self.contributions:
            found += [Output("contributions", len(columns) + 1)]
        check_outputs(tuple(output.name for output in found), "model.yaml")
        return tuple(found)

    @property
    def explained(self) -> bool:
        return self.reasons > 0 or self.contributions

    def _numbered(self, name: str) -> list[str]:
        return [name] if self.margins == 1 else [f"{name}_{place}" for place in range(self.margins)]

    def describe(self) -> dict[str, Any]:
        """The keys of model.yaml; categories are tensors."""
        link: dict[str, Any] = {"name": self.link} | ({"alpha": self.alpha} if self.alpha != 1.0 else {})
        return {
            "features": [_described(feature) for feature in self.features],
            "values": {"rounded": self.rounded, "smallest": self.smallest},
            "link": link,
            "margins": self.margins,
            **({"classes": list(self.classes)} if self.classes else {}),
            "outputs": {"margin": self.margin, "reasons": self.reasons, "contributions": self.contributions},
        }


def _described(feature: Feature) -> dict[str, Any]:
    plain: dict[str, Any] = {"column": feature.column}
    if not feature.categorical:
        return plain
    known = feature.categories
    return plain | {"kind": "categorical"} | ({} if known is None else {"categories": len(known)})


def read_shape(body: Fields, categories: dict[str, int]) -> ForestShape:
    """`categories` is filled with the number of known values of each column that has a vocabulary; the caller puts them in place.

    Raises: ModelError: what model.yaml says cannot be.
    """
    features = tuple(_feature(item, categories) for item in body.items("features"))
    values, link, outputs = body.fields("values"), body.fields("link"), body.fields("outputs")
    named = link.text("name")
    if named not in LINKS:
        link.wrong("name", f"one of {', '.join(LINKS)}", named)
    alpha = link.number("alpha") if link.has("alpha") else 1.0
    shape = ForestShape(
        features,
        values.flag("rounded", False),
        named,
        body.integer("margins", 1, 100_000),
        values.number("smallest"),
        alpha,
        body.texts("classes") if body.has("classes") else (),
        outputs.flag("margin", False),
        outputs.integer("reasons", 0, MOST_REASONS),
        outputs.flag("contributions", False),
    )
    for part in (values, link, outputs, body):
        part.done()
    check_shape(shape, body.where)
    return shape


def _feature(item: Fields, categories: dict[str, int]) -> Feature:
    column = item.text("column")
    kind = item.text("kind") if item.has("kind") else "numeric"
    if kind not in ("numeric", "categorical"):
        item.wrong("kind", "numeric or categorical", kind)
    if item.has("categories"):
        categories[column] = item.integer("categories", 0, 1 << 30)
    item.done()
    return Feature(column, kind == "categorical")


def check_shape(shape: ForestShape, where: str) -> None:
    """Raises: ModelError: parts that do not fit together."""
    columns: Sequence[str] = [feature.column for feature in shape.features]
    if not columns or len(set(columns)) < len(columns):
        raise ModelError(f"{where}: features must be columns of different names, found {list(columns)[:20]}.")
    if (shape.link in OF_CLASSES) != bool(shape.classes) or (shape.classes and len(shape.classes) != shape.margins):
        raise ModelError(f"{where}: link {shape.link} of {shape.margins} margins does not fit {len(shape.classes)} classes.")
    if not (math.isfinite(shape.alpha) and shape.alpha > 0 and 0 <= shape.smallest < 1):
        raise ModelError(f"{where}: alpha must be above 0 and smallest in [0, 1), found {shape.alpha} and {shape.smallest}.")
    if shape.explained and shape.margins > 1 and not shape.classes:
        raise ModelError(f"{where}: reasons and contributions are of one margin, or of the class that is decided for.")
    shape.outputs  # noqa: B018 - raises where names clash
