"""What a model of texts did, in one clause: tokens, and what was spared of them. Says nothing of other models."""

from __future__ import annotations

from collections.abc import Mapping


def clause(work: Mapping[str, int], tokens_per_second: float, busy_s: float) -> str:
    """`work` as receipts count it (`Encoded.work`), `busy_s` the seconds of all stages together. "" where no text was read.

    Padding is compared with batches of 32 rows as they came, each padded to its longest; duplicates with scoring every row.
    """
    tokens, saved, padding, spent = (work.get(key, 0) for key in ("tokens", "tokens_saved", "padding_avoided", "tokenise_us"))
    if not tokens:
        return ""
    of_rows = tokens + saved
    said = [f"{_count(tokens)} tokens ({tokens_per_second:,.0f} tokens/s)"]
    said += [f"tokenising {spent / 1e6 / busy_s:.1%}"] if spent and busy_s > 0 else []
    said += [f"padding avoided {padding / (padding + of_rows):.0%}"] if padding else []
    said += [f"duplicates saved {saved / of_rows:.0%}"] if saved else []
    said += [f"{work['truncated']:,} truncated"] if work.get("truncated") else []
    return ", ".join(said)


def _count(tokens: int) -> str:
    return f"{tokens:,}" if tokens < 1_000_000 else f"{tokens / 1e6:,.1f} M"
