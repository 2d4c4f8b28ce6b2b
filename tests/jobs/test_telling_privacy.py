"""Law 8 in what is told: no personal value and no secret is in any event, metric, waiting message or account of the telling."""

import json

import people
import pytest
from receiver import receiver

from scoring.jobs import telling
from scoring.jobs.run import run
from scoring.settings import build

TOKEN = "canary-token-5be1"


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", TOKEN)
    monkeypatch.setenv("SCORING_PUSHGATEWAY_TOKEN", TOKEN)


def test_canaries_are_told_to_nobody(tmp_path):
    place = people.make(tmp_path / "people")
    workspace, textfile = tmp_path / "w", tmp_path / "x.prom"
    with receiver() as gateway, receiver(500) as lineage:
        settings = {"lineage": {"url": f"{lineage.url}/api/v1/lineage"}, "limit_s": 30.0}
        settings["metrics"] = {"textfile": str(textfile), "pushgateway": gateway.url}
        job = build(people.Job, people.plain(place, workspace, respond=settings))
        told = telling.tell(job, run(job, "key: not kept as said\n", people.Quiet()))
        assert told is not None
    assert {name: (r["delivered"], r["waits"], r["lost"]) for name, r in told.receivers.items()} == {
        "lineage": (0, 2, 0),
        "pushgateway": (1, 0, 0),
        "textfile": (1, 0, 0),
    }
    assert [r.headers["Authorization"] for r in (*lineage.got, *gateway.got)] == [f"Bearer {TOKEN}"] * 2, "secrets do arrive"
    written = {p.name: p.read_text() for p in workspace.rglob("*") if p.suffix in (".json", ".jsonl", ".yaml")}
    said = [*written.values(), textfile.read_text(), told.line(), *(r.body for r in (*lineage.got, *gateway.got))]
    assert {"openlineage.jsonl", "told.json", "asked.json", "last-success.json"} <= written.keys()
    assert any("-2-complete" in name for name in written), "the outbox was looked at"
    for canary in ("canary.example", "Canary-", TOKEN, people.KEY):
        assert [text[:200] for text in said if canary in text] == []
    end = json.loads(written["openlineage.jsonl"].splitlines()[1])
    counted = {name for one in end["inputs"] for name in one["inputFacets"]}
    assert counted == {"inputStatistics", "dataQualityMetrics", "dataQualityAssertions"}
    masked = {
        name: field["inputFields"][0]["transformations"][0]["masking"]
        for output in end["outputs"]
        for name, field in output.get("facets", {}).get("columnLineage", {}).get("fields", {}).items()
        if name in ("row", "email", "name", "age")
    }
    assert masked == {"row": False, "email": True, "name": True, "age": True}
