"""Which layers of a ModernBERT see all tokens, how far the others see, and the bases of its rotary positions.

transformers 4 says it by numbers (global_attn_every_n_layers, global_rope_theta, local_rope_theta), transformers 5 by layer_types
and rope_parameters, which decide where both are there. `local_attention` counts both sides: 128 are 64 tokens to each.
"""

from __future__ import annotations

from typing import Any

from scoring.errors import ModelError
from scoring.models.huggingface.folder import keys_of, refuse
from scoring.models.manifest import Fields

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_OLD = {_GLOBAL: ("global_rope_theta", 160_000.0), _LOCAL: ("local_rope_theta", 10_000.0)}


def rotary(keys: Fields, data: dict[str, Any], where: str, layers: int) -> tuple[int, int, tuple[float, float]]:
    """`window`, `global_every` and `theta` of a Shape. Raises: ModelError: layers or positions of another kind."""
    every = keys.integer("global_attn_every_n_layers", 1, 1024, 3)
    if data.get("layer_types") is not None:
        every = _every(data["layer_types"], where, layers)
    if (attention := keys.integer("local_attention", 1, 1 << 20, 128)) % 2:
        raise refuse(where, "local_attention", attention, "windows of an even number of tokens are, half of them to each side")
    parameters = keys_of(data.get("rope_parameters") or {}, f"{where}: rope_parameters")
    found = _theta(keys, data, parameters, _GLOBAL), _theta(keys, data, parameters, _LOCAL)
    parameters.done()
    return attention // 2, every, found


def _every(types: Any, where: str, layers: int) -> int:
    """Layers 0, n, 2 n, … see all, and no other."""
    if isinstance(types, list) and len(types) == layers and types[0] == _GLOBAL:
        every = next((n for n in range(1, layers) if types[n] == _GLOBAL), max(layers, 1))
        if types == [_LOCAL if n % every else _GLOBAL for n in range(layers)]:
            return every
    raise refuse(where, "layer_types", types, f"{layers} layers are of which each n-th, from the first on, is {_GLOBAL}")


def _theta(keys: Fields, data: dict[str, Any], parameters: Fields, kind: str) -> float:
    old, usual = _OLD[kind]
    if old in data and data[old] is None:
        raise refuse(keys.where, old, None, "a number is")
    base = keys.number(old, usual)
    own = keys_of(parameters.anything(kind, None) or {}, f"{parameters.where}: {kind}")
    if (rope := own.text("rope_type", "default")) != "default":
        raise refuse(own.where, "rope_type", rope, "'default' is")
    if (partial := own.number("partial_rotary_factor", 1.0)) != 1.0:
        raise refuse(own.where, "partial_rotary_factor", partial, "1.0 is")
    theta = own.number("rope_theta", base)
    own.done()
    if theta <= 0:
        raise ModelError(f"{own.where}: 'rope_theta' must be above 0, not {theta}.")
    return theta
