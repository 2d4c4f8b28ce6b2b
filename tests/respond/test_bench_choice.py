"""Which configuration is chosen: never one that another beats beyond the spread, never one beyond the tolerance."""

from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from scoring.respond.bench.choice import choose, dominates, pareto
from scoring.respond.bench.picture import picture
from scoring.respond.bench.results import BenchRecord, Choice, Dataset, Measurement, Result, Spread, told_apart
from scoring.respond.bench.table import render


def measured(rates, price=None, deviation=0.0, tolerance=1e-3):
    rate = Spread.of(rates)
    return Measurement(
        lanes=1,
        kind="cpu",
        device="cpu",
        devices=2.0,
        sample_rows=1_000,
        seconds=Spread.of([1.0] * len(rates)),
        rows_per_second=rate,
        tokens_per_second=None,
        start_seconds=1.0,
        stages={"read": 1.0, "score": 2.0},
        busy=0.5,
        waited_for="",
        host_gb=0.5,
        gpu_gb=None,
        deviation=deviation,
        tolerance=tolerance,
        routes={"cpu": 1_000},
        price_per_hour=price,
        cost_per_million=None if price is None else rate.each(lambda r: price * 1e6 / r / 3600),
    )


def result(name, *args, **kwargs):
    return Result(name, (name,), "measured", "", measured(*args, **kwargs))


def record(results):
    dataset = Dataset("data", 10**9, 10**9)
    machine = {"processor": "a processor"}
    model = {"name": "a <model>", "version": "1", "digest": "d"}
    return BenchRecord("2026-01-01", machine, dataset, model, 5, tuple(results), choose(results), pareto(results))


rates = st.lists(st.floats(1, 1e9), min_size=1, max_size=7)
prices = st.one_of(st.none(), st.floats(0.001, 100))
ones = st.tuples(rates, prices, st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
many = st.lists(ones, min_size=1, max_size=8).map(lambda found: [result(f"c{n}", *one) for n, one in enumerate(found)])


def costs(results):
    """As the choice is to see them: money if all that may be chosen have a price, else time."""
    if all(r.measured.cost_per_million for r in results):
        return {r.name: r.measured.cost_per_million for r in results}
    return {r.name: r.measured.rows_per_second.each(lambda rate: 1e6 / rate) for r in results}


def fit(results):
    return [r for r in results if r.measured.deviation <= r.measured.tolerance]


@given(many)
def test_the_chosen_one_is_beaten_by_none_beyond_the_spread(results):
    chosen, able = choose(results), fit(results)
    assert bool(chosen.name) == bool(able)
    if able:
        cost = costs(able)
        assert chosen.name in cost, "chosen, but beyond the tolerance"
        assert not any(other.high < cost[chosen.name].low for other in cost.values())


@given(many)
def test_alike_are_exactly_those_that_nobody_beats_either(results):
    chosen, able = choose(results), fit(results)
    cost = costs(able) if able else {}
    unbeaten = {name for name, mine in cost.items() if not any(other.high < mine.low for other in cost.values())}
    assert {chosen.name, *chosen.alike} - {""} == unbeaten


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=8), prices)
@example([999999999.9999999, 1e9], None)
def test_without_spread_the_chosen_one_is_never_dominated(found, price):
    results = [result(f"c{n}", [rate], price) for n, rate in enumerate(found)]
    chosen = choose(results)
    assert chosen.name in pareto(results)
    best = next(r for r in results if r.name == chosen.name)
    assert not any(dominates(other.measured, best.measured) for other in results)


@given(many)
def test_the_pareto_set_is_never_empty_and_dominates_the_rest(results):
    front = pareto(results)
    inside = [r for r in results if r.name in front]
    assert inside
    for r in results:
        assert r.name in front or any(dominates(better.measured, r.measured) for better in inside)


@given(rates)
def test_quartiles_lie_within_what_was_measured(values):
    found = Spread.of(values)
    room = 1e-9 * max(values)
    assert min(values) - room <= found.low <= found.median + room
    assert found.median - room <= found.high <= max(values) + room


def test_a_difference_within_the_spread_is_said_to_be_none():
    alike = [result("steady", [95, 96, 97, 98, 99]), result("wild", [10, 90, 100, 110, 200]), result("slow", [10, 11, 12, 13, 14])]
    chosen = choose(alike)
    assert (chosen.name, chosen.alike) == ("steady", ("wild",))
    assert "no difference to wild;" in chosen.why
    assert "The next, slow, takes 8.08 times as much." in chosen.why


def test_the_cheapest_is_chosen_not_the_fastest():
    chosen = choose([result("big", [1_000.0] * 5, price=10.0), result("small", [500.0] * 5, price=1.0)])
    assert chosen.name == "small"
    assert "cheapest within tolerance" in chosen.why


def test_speed_beyond_the_tolerance_is_not_chosen():
    chosen = choose([result("exact", [10.0]), result("sloppy", [1_000.0], deviation=0.1)])
    assert chosen.name == "exact"


def test_without_any_measurement_there_is_no_choice():
    lost = Result("hardware=cuda", (), "skipped", "no CUDA device")
    assert choose([lost]) == Choice("", "No configuration could be measured.")
    assert "skipped: hardware=cuda: no CUDA device" in render(record([lost]))
    ElementTree.fromstring(picture(record([lost])))


@given(many)
def test_the_picture_is_one_svg_without_script_and_the_table_names_all(results):
    found = record([*results, Result("a & <b>", (), "failed", "out of memory")])
    drawn = picture(found)
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert "<script" not in drawn
    said = render(found)
    assert all(r.name in said for r in found.results)


def test_configurations_are_named_by_what_sets_them_apart():
    assert told_apart([["a=1", "b=1"], ["a=1", "b=2"]]) == ["b=1", "b=2"]
    assert told_apart([["a=1"]]) == ["as said"]
    assert len(set(told_apart([["a=1"], ["a=1"], ["a=2"]]))) == 3
