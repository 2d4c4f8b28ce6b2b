"""What the numbers of a classifier mean: labels and problem type of config.json, as heads.

As the text-classification pipeline of transformers and CrossEncoder of sentence-transformers do: one label is a probability unless
it is a regression; several are classes of which one is right, unless they are said to be independent.
"""

from __future__ import annotations

from typing import Any

from scoring.errors import ModelError
from scoring.models.heads import Head, output_names
from scoring.models.huggingface.config import Read
from scoring.models.huggingface.folder import keys_of, refuse

MOST_LABELS = 65_536
_SIGMOID, _IDENTITY = "sigmoid", "identity"
_ACTIVATIONS = {
    "torch.nn.modules.activation.Sigmoid": _SIGMOID,
    "torch.nn.modules.linear.Identity": _IDENTITY,
    "torch.nn.Sigmoid": _SIGMOID,
    "torch.nn.Identity": _IDENTITY,
}
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


def read_heads(read: Read, pairs: bool) -> tuple[Head, ...]:
    """`pairs`: a cross-encoder, for which sentence-transformers looks at the activation, not at the problem type.

    Raises:
        ModelError: labels that cannot be output columns, or an activation that is not known.
    """
    labels, problem, activation = _labels(read), _problem(read), _activation(read)
    if len(labels) == 1:
        plain = activation == _IDENTITY if activation or pairs else problem == "regression"
        return (Head("score", "regression" if plain else "binary"),)
    if problem == "single_label_classification" and activation == _SIGMOID:
        raise ModelError(f"{read.where}: the activation Sigmoid contradicts 'problem_type' {problem} of {len(labels)} labels.")
    if problem == "regression":
        heads = tuple(Head(label, "regression") for label in labels)
    elif problem == "multi_label_classification" or activation == _SIGMOID:
        heads = tuple(Head(label, "binary") for label in labels)
    else:
        heads = (Head("label", "multiclass", labels),)
    output_names(heads, f"{read.where}: id2label")
    return heads


def _labels(read: Read) -> tuple[str, ...]:
    names = read.keys.anything("id2label", None)
    if names is None:
        return tuple(f"LABEL_{n}" for n in range(read.keys.integer("num_labels", 1, MOST_LABELS, 2)))
    good = isinstance(names, dict) and all(isinstance(name, str) and name for name in names.values())
    if not good or not names or len(names) > MOST_LABELS or names.keys() != {str(n) for n in range(len(names))}:
        read.keys.wrong("id2label", "an object with a name for each of 0, 1, 2, …", names)
    if (said := read.keys.integer("num_labels", 1, MOST_LABELS, len(names))) != len(names):
        raise refuse(read.where, "num_labels", said, f"{len(names)} is, as many as id2label names")
    return tuple(names[str(n)] for n in range(len(names)))


def _problem(read: Read) -> str | None:
    if not read.keys.has("problem_type"):
        return None
    if (found := read.keys.text("problem_type")) not in _PROBLEMS:
        raise refuse(read.where, "problem_type", found, f"{', '.join(_PROBLEMS)} are")
    return found


def _activation(read: Read) -> str | None:
    """What sentence-transformers wrote into config.json of a cross-encoder; the old key counts where the new one is not."""
    own = keys_of(read.keys.anything("sentence_transformers", {}), f"{read.where}: sentence_transformers")
    old: Any = read.keys.anything("sbert_ce_default_activation_function", None)
    if (name := own.anything("activation_fn", old)) is None:
        return None
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise refuse(read.where, "activation_fn", name, f"{' and '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]
