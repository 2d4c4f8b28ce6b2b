"""The demo's data and model: a month of card transactions with real dirt, and a fraud model fitted on the month before.

Everything is drawn from one seed. Days are drawn apart from each other, so that they can be made side by side. What was made wrong
on purpose is counted in `data/truth.json`: rows by day and by the reason that a contract should find.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import ConfigError
from scoring.jobs.arguments import Given
from scoring.jobs.baseline import keep, measure
from scoring.models.load import load
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Column
from scoring.sources import Window
from scoring.watch.baseline import NAME as BASELINE

FIRST_DAY, DAYS = date(2026, 1, 1), 30
STRINGS_DAY, COPY_DAY, TRUNCATED_DAY, EMPTY_DAY, SHIFT_DAY = 7, 12, 15, 18, 21  # days of the month
ROWS = 3_200_000  # drawn, by default
GARBAGE = ("12,5", "N/A", " 7", "1e400", "")
NUMERIC = ("amount", "merchant_risk", "distance_km", "minutes_since_last", "hour")
CATEGORIES = {
    "country": ("DE", "FR", "AT", "NL", "IT", "ES", "PL", "CH", "BE", "CZ", "DK", "SE", "GB", "US", "TR", "RO", "BG", "HK"),
    "merchant_category": (
        *("grocery", "fuel", "restaurant", "pharmacy", "clothing", "electronics", "travel", "hotel", "transit", "furniture"),
        *("books", "sports", "toys", "beauty", "streaming", "gaming", "jewellery", "charity", "cash", "telecom", "gift_cards"),
    ),
    "channel": ("chip", "contactless", "online", "atm", "phone"),
    "card_type": ("debit", "credit", "prepaid", "business"),
}
UNSEEN = {"country": "XK", "merchant_category": "crypto_exchange", "channel": "wearable", "card_type": "virtual"}
RISKY = {"country": ("TR", "RO", "BG", "HK"), "merchant_category": ("electronics", "gaming", "jewellery", "gift_cards")}
INPUTS = {
    "amount": Column("float64", nullable=False, min=0, max=50_000),
    "merchant_risk": Column("float32", min=0, max=1),
    "distance_km": Column("float32", min=0, max=20_040),  # half the way round the Earth
    "minutes_since_last": Column("float32", min=0),
    "hour": Column("int32", nullable=False, min=0, max=23),
}
_TRAINING_ROWS = (5_000, 60_000)  # at least, at most: seconds, whatever `rows` is
_CARDS = 50_000
_ROW_GROUP = 1 << 16
Drawn = dict[str, np.ndarray[Any, Any]]
Truth = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """Where the demo's data and model lie."""

    data: str
    bundle: str


def command(given: Given) -> tuple[Made, int]:
    folder = Path(given.needed("out"))
    make(folder, given.number("rows", ROWS), given.number("seed", 0))
    return Made(str(folder / "data" / "transactions"), str(folder / "bundle")), 0


def render(made: Made) -> str:
    return f"data:   {made.data}\nbundle: {made.bundle}"


def make(folder: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Write `folder`/data/transactions (30 days of Parquet), data/truth.json and `folder`/bundle. What is there already stays.

    `rows` counts what is drawn; a copied file repeats some of them, and a truncated one loses some.

    Raises:
        ConfigError: `folder`/data holds something that this did not make.
    """
    said = {"rows": rows, "seed": seed, "format": 2}
    data, note = folder / "data" / "transactions", folder / "data" / "demo.json"
    if data.exists() and note.exists() and json.loads(note.read_text()) == said:
        return
    if data.exists() and not note.exists():
        raise ConfigError(f"{data} exists and is not data of the demo: name another folder with out=…, or remove it.")
    making = folder / "data" / ".making"
    for stale in (making, data, folder / "bundle"):
        shutil.rmtree(stale, ignore_errors=True)
    _train(folder / "bundle", int(np.clip(rows // 2, *_TRAINING_ROWS)), seed)
    truth = _write(making, rows, seed)
    (folder / "data" / "truth.json").write_text(json.dumps(truth, indent=1))
    note.write_text(json.dumps(said))  # before the rename: data without a note is taken for somebody else's
    making.rename(data)


def training_table(rows: int, seed: int) -> pa.Table:
    """December 2025, labelled: `fraud` (bool) is true for some 4 % of the rows."""
    rng = np.random.default_rng([seed, 0])
    drawn = _draw(rng, rows, shifted=False)
    fraud = rng.random(rows) < 1 / (1 + np.exp(-_log_odds(drawn)))
    return _table(drawn).append_column("fraud", pa.array(fraud))


def _train(folder: Path, rows: int, seed: int) -> None:
    table = training_table(rows, seed)
    fit(
        table,
        folder,
        numeric=NUMERIC,
        categorical=tuple(CATEGORIES),
        targets={"score": Target("fraud")},
        name="card-fraud",
        version="2025.12",
        inputs=INPUTS,
        recipe=Recipe(epochs=6, batch_rows=256, seed=seed),
    )
    model, batches = load(folder), table.select(list((*NUMERIC, *CATEGORIES))).combine_chunks().to_batches()
    windows = [Window(batch, np.arange(batch.num_rows, dtype=np.int64)) for batch in batches]
    keep(measure(model, lambda: windows), folder / BASELINE)


def _write(folder: Path, rows: int, seed: int) -> dict[str, Truth]:
    """All days; two at a time, since drawing and writing mostly run outside the interpreter lock. Returns the truth by day."""
    shares = np.array([0.0 if day == EMPTY_DAY else 1.2 if _date(day).weekday() in (4, 5) else 1.0 for day in _days()])
    ends = np.round(np.cumsum(shares) / shares.sum() * rows).astype(int)
    starts = np.concatenate([[0], ends[:-1]])
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        done = [pool.submit(_write_day, folder, d, int(a), int(b), seed) for d, a, b in zip(_days(), starts, ends, strict=True)]
        return {str(_date(n)): day.result() for n, day in zip(_days(), done, strict=True)}


def _write_day(folder: Path, day: int, start: int, stop: int, seed: int) -> Truth:
    """Returns rows that can be read, those of them at fault, and by which rule; and files that are lost, with their rows."""
    rng = np.random.default_rng([seed, day])
    target = folder / f"date={_date(day)}"
    target.mkdir(parents=True)
    table, wrong = _day(rng, day, start, stop, seed)
    files = 1 if day == EMPTY_DAY else 3 + day % 2
    cuts = np.linspace(0, table.num_rows, files + 1).astype(int)
    for n in range(files):
        part = table.slice(cuts[n], cuts[n + 1] - cuts[n])
        if (day, n) == (STRINGS_DAY, 1):
            part, odd = _as_strings(rng, part)
            wrong["amount:range"][cuts[n] + odd] = False
            wrong["amount:type"][cuts[n] + odd] = True
        pq.write_table(part, target / f"part-{n}.parquet", compression="snappy", row_group_size=_ROW_GROUP)
    spoil = _SPOILED.get(day)
    if spoil:
        spoil(target)
    lost = slice(cuts[1], cuts[2]) if day == TRUNCATED_DAY else slice(0, 0)
    kept = {rule: np.delete(mask, lost) for rule, mask in wrong.items()}
    files_lost = {COPY_DAY: {"retry-part-0.parquet": int(cuts[1])}, TRUNCATED_DAY: {"part-1.parquet": 0}}.get(day, {})
    return {
        "rows": int(table.num_rows - (lost.stop - lost.start)),
        "rows_at_fault": int(np.logical_or.reduce(list(kept.values())).sum()),
        "reasons": {rule: int(mask.sum()) for rule, mask in kept.items() if mask.any()},
        "files_lost": files_lost,
    }


def _copy(target: Path) -> None:
    """A retried upload: the same bytes under another name."""
    shutil.copyfile(target / "part-0.parquet", target / "retry-part-0.parquet")


def _truncate(target: Path) -> None:
    """An upload that was cut off: the footer is missing."""
    path = target / "part-1.parquet"
    os.truncate(path, path.stat().st_size * 2 // 3)


_SPOILED: dict[int, Callable[[Path], None]] = {COPY_DAY: _copy, TRUNCATED_DAY: _truncate}


def _day(rng: np.random.Generator, day: int, start: int, stop: int, seed: int) -> tuple[pa.Table, Drawn]:
    """Rows of one day: ids, drawn columns, about two in a thousand with a value that cannot be; and which these are, by rule."""
    count = stop - start
    drawn = _draw(rng, count, shifted=day >= SHIFT_DAY)
    refund, placeholder = rng.random(count) < 8e-4, rng.random(count) < 1e-4
    wrong = {"amount:range": placeholder | (refund & (drawn["amount"] > 0)), "amount:type": np.zeros(count, np.bool_)}
    drawn["amount"][refund] *= -1  # refunds booked as payments
    drawn["amount"][placeholder] = 9_999_999.99
    wrong["hour:range"] = rng.random(count) < 5e-4
    drawn["hour"][wrong["hour:range"]] = 31
    wrong["merchant_risk:range"] = rng.random(count) < 3e-4
    drawn["merchant_risk"][wrong["merchant_risk:range"]] = 1.7
    placed = np.random.default_rng([seed, day, 1]).random(count) < 4e-4  # an online purchase with a place: two feeds were mixed up
    drawn["distance_km"][placed & (drawn["channel"] == CATEGORIES["channel"].index("online"))] = 1.0
    for name, known in CATEGORIES.items():
        share = 0.03 if day >= SHIFT_DAY and name == "merchant_category" else 0.002
        drawn[name][rng.random(count) < share] = len(known)
    online = drawn["channel"] == CATEGORIES["channel"].index("online")
    wrong["rule:online_has_no_place"] = online & ~np.isnan(drawn["distance_km"])
    cards = pa.array([f"c{n:06d}" for n in range(_CARDS)])
    front = {
        "transaction_id": pa.array(np.arange(start, stop) + 1_000_000_000),
        "card_id": cards.take(_places(np.minimum(rng.exponential(_CARDS / 5, count), _CARDS - 1))),
    }
    back = _table(drawn)
    return pa.table(front | {name: back.column(name) for name in back.column_names}), wrong


def _draw(rng: np.random.Generator, count: int, shifted: bool) -> Drawn:
    """Numbers as they are stored, NaN where null; categories as places in CATEGORIES, -1 where null.

    `shifted` is the world from SHIFT_DAY on: dearer purchases, more of them online and from abroad, riskier merchants.
    """
    drawn: Drawn = {}
    for name, known in CATEGORIES.items():
        weight = 1 / np.arange(1, len(known) + 1) ** (0.7 if shifted and name == "country" else 1.1)
        if shifted and name == "channel":
            weight[known.index("online")] *= 2.5
        drawn[name] = np.searchsorted(np.cumsum(weight / weight.sum())[:-1], rng.random(count), side="right")
    drawn["card_type"][rng.random(count) < 0.02] = -1
    online = drawn["channel"] == CATEGORIES["channel"].index("online")
    night = rng.random(count) < 0.12
    drawn["amount"] = np.round(np.minimum(rng.lognormal(3.5 if shifted else 3.2, 1.1, count), 45_000), 2)
    drawn["merchant_risk"] = _holes(rng, rng.beta(2.6 if shifted else 2.0, 9.0, count), 0.04)
    drawn["distance_km"] = _holes(rng, np.minimum(rng.lognormal(1.8, 1.6, count), 18_000), 0.03)
    drawn["distance_km"][online] = np.nan  # nobody knows where the buyer is
    drawn["minutes_since_last"] = _holes(rng, rng.exponential(900.0, count), 0.08)
    drawn["hour"] = np.where(night, rng.integers(0, 6, count), rng.integers(6, 24, count)).astype(np.int32)
    return drawn


def _holes(rng: np.random.Generator, values: np.ndarray[Any, Any], share: float) -> np.ndarray[Any, Any]:
    holed = values.astype(np.float32)
    holed[rng.random(len(values), dtype=np.float32) < share] = np.nan
    return holed


def _log_odds(drawn: Drawn) -> np.ndarray[Any, Any]:
    """Log odds of fraud: dear, far away, in quick succession, at night, online, risky merchants and countries; prepaid cards."""
    odds = -10.4 + 0.8 * np.log1p(np.maximum(drawn["amount"], 0)) + 9.0 * np.nan_to_num(drawn["merchant_risk"], nan=0.25)
    odds += 0.4 * np.log1p(np.nan_to_num(drawn["distance_km"], nan=5.0)) + 1.6 * (drawn["hour"] < 6)
    odds += 2.5 * np.exp(-np.nan_to_num(drawn["minutes_since_last"], nan=900.0) / 30)
    odds += 1.2 * (drawn["channel"] == CATEGORIES["channel"].index("online"))
    odds += 0.7 * (drawn["card_type"] == CATEGORIES["card_type"].index("prepaid"))
    for name, risky in RISKY.items():
        odds += 1.1 * np.isin(drawn[name], [CATEGORIES[name].index(value) for value in risky])
    return np.asarray(odds)


def _table(drawn: Drawn) -> pa.Table:
    columns: dict[str, pa.Array[Any]] = {n: pa.array(drawn[n], from_pandas=True) for n in NUMERIC}
    for name, known in CATEGORIES.items():
        columns[name] = pa.array([*known, UNSEEN[name]]).take(_places(drawn[name]))
    return pa.table(columns)


def _places(drawn: np.ndarray[Any, Any]) -> pa.Int32Array:
    """Below 0 is null."""
    return cast(pa.Int32Array, pa.array(drawn.astype(np.int32), mask=drawn < 0))


def _as_strings(rng: np.random.Generator, table: pa.Table) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """The file of another exporter: `amount` is text, and one value in a hundred is no number; at these places."""
    texts = np.array([f"{value:.2f}" for value in table.column("amount").to_numpy()], object)
    odd = rng.choice(len(texts), max(len(GARBAGE), len(texts) // 100), replace=False)
    texts[odd] = np.resize(np.array(GARBAGE, object), len(odd))
    place = table.schema.get_field_index("amount")
    return table.set_column(place, "amount", pa.array(texts, pa.string())), odd


def _days() -> range:
    return range(1, DAYS + 1)


def _date(day: int) -> date:
    return FIRST_DAY + timedelta(days=day - 1)
