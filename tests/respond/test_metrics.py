"""Metrics: they parse, are named as Prometheus wants, and dashboard and alert rules ask for nothing that is not written."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from receiver import receiver
from told_story import FINISHED, story

from scoring.respond.delivery import Http, deliver
from scoring.respond.live_metrics import live_families, live_text
from scoring.respond.metrics import CONTENT_TYPE, families, group, messages, text
from scoring.respond.outbox import Outbox
from scoring.stores import LocalStore

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRESS = {
    "rows": {"done": 120, "planned": 204},
    **{"scored": 118, "quarantined": 2, "suppressed": 0},
    "slices": {"done": 3, "planned": 6},
    **{"rows_per_second": 61.5, "eta_seconds": [1.0, 1.4], "lanes": 2, "updated": FINISHED},
}
RULES = DEPLOY / "prometheus/scoring.rules.yml"
UNITS = (
    "_seconds",
    "_ratio",
    "_rows",
    "_per_second",
    "_info",
    "_status",
    "_messages",
    "_joules",
    "_partitions",
    "_checks",
    "_slices",
    "_lanes",
)


def samples(found):
    parsed = text_string_to_metric_families(text(found))
    return {(s.name, *sorted(v for k, v in s.labels.items() if k != "pipeline")): s.value for f in parsed for s in f.samples}


def test_what_is_said_of_a_run():
    said = samples(story(held=True))
    assert said["scoring_rows", "scored"] == 200
    assert said["scoring_rows", "quarantined"] == 4
    assert said["scoring_partitions", "published"] == 2
    assert said["scoring_partitions", "held"] == 1
    assert said["scoring_run_duration_seconds",] == 125
    assert said["scoring_rows_per_second",] == 1632
    assert said["scoring_run_energy_joules", "gpu-0"] == 3000
    assert said["scoring_device_busy_ratio",] == 0.25, "50 s of two lanes for 100 s"
    assert said["scoring_routed_rows", "cpu"] == 10
    assert said["scoring_quarantined_rows", "admit:amount:range"] == 4
    assert said["scoring_checks", "drift", "warn"] == 1
    assert said["scoring_outbox_messages", "lineage"] == 2
    assert said["scoring_null_ratio", "amount"] == 0.1


def test_drift_is_that_of_the_worst_partition_as_a_whole():
    said = samples(story())
    assert said["scoring_drift_ratio", "amount", "drift"] == 0.3
    assert ("scoring_drift_ratio", "history", "volume") not in said, "a z is no share of rows"


def test_one_status_is_one():
    said = {k[1]: v for k, v in samples(story("held")).items() if k[0] == "scoring_run_status"}
    assert [name for name, value in said.items() if value] == ["held"]
    assert len(said) == 7


def test_a_run_that_fails_leaves_the_last_success():
    assert samples(story("failed"))["scoring_last_success_timestamp_seconds",] == 1767488525.0
    assert ("scoring_last_success_timestamp_seconds",) not in samples(story("failed", last_success=None))


def test_every_series_says_which_job_and_none_says_which_run():
    found = list(text_string_to_metric_families(text(story(held=True))))
    for sample in (s for f in found for s in f.samples):
        assert sample.labels["pipeline"] == "churn-nightly"
        assert not {"run", "run_id", "partition", "instance", "job"} & sample.labels.keys()
        assert "2026-01" not in json.dumps(sample.labels)


def test_names_and_units():
    assert not families(story()).keys() & live_families(PROGRESS).keys(), "the last run's stay while the next one goes on"
    for name, (words, labels, _) in written().items():
        assert name.startswith("scoring_")
        assert re.fullmatch(r"[a-z_]+", name)
        assert name.endswith(UNITS), name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), "none is a counter"
        assert words.endswith(".")
        assert "pipeline" not in labels


def test_the_pushgateway_gets_the_whole_group_of_the_job(tmp_path):
    outbox = Outbox(LocalStore(str(tmp_path)))
    for message in messages(story("failed"), ("pushgateway",)):
        outbox.keep(message)  # one of an earlier run, that waits
    with receiver() as there:
        address = group(f"{there.url}/", "churn-nightly")
        fresh = messages(story(), ("pushgateway",))
        deliver([Http("pushgateway", address, "PUT", "X_TOKEN")], fresh, outbox, time.monotonic() + 5, lambda outcome: None)
    assert [(r.method, r.path) for r in there.got] == [("PUT", "/metrics/job/churn-nightly")], "the newest alone"
    assert there.got[0].headers["Content-Type"] == CONTENT_TYPE
    assert 'scoring_run_status{pipeline="churn-nightly",status="published"} 1.0' in there.got[0].body
    assert outbox.counts() == {}


def written():
    return families(story()) | live_families(PROGRESS)


def test_how_far_a_run_is():
    parsed = text_string_to_metric_families(live_text("churn-nightly", PROGRESS))
    said = {(s.name, s.labels.get("outcome") or s.labels.get("state")): s.value for f in parsed for s in f.samples}
    assert said["scoring_live_rows", "scored"] == 118
    assert said["scoring_live_planned_rows", None] == 204
    assert said["scoring_live_slices", "done"] == 3
    assert said["scoring_live_remaining_seconds", None] == 1.4
    assert said["scoring_live_updated_timestamp_seconds", None] == 1767488525.0
    assert "remaining_seconds{" not in live_text("churn-nightly", PROGRESS | {"eta_seconds": None})


def rules():
    return [rule for part in yaml.safe_load(RULES.read_text())["groups"] for rule in part["rules"]]


def queries():
    """Every expression of the dashboard and of the rules, with the dashboard's variables filled in."""
    panels = json.loads((DEPLOY / "grafana/scoring.json").read_text())["panels"]
    asked = [target["expr"].replace("$pipeline", ".*") for panel in panels for target in panel["targets"]]
    return asked + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("query", queries())
def test_dashboard_and_rules_ask_for_what_is_written(query):
    promql_parser.parse(query)
    names = set(re.findall(r"\bscoring_\w+", query))
    assert names
    assert names <= set(written())
    for name, selected in re.findall(r"(scoring_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*[=!]~?\"", selected)) <= {"pipeline", *written()[name][1]}, name


def test_every_metric_is_shown_or_watched():
    asked = " ".join(queries())
    assert [name for name in written() if name not in asked] == []


def test_labels_that_rules_choose_exist():
    said = text(story(held=True))
    for value in re.findall(r'(?:status|outcome|route)="([a-z-]+)"', " ".join(rule["expr"] for rule in rules())):
        assert f'"{value}"' in said or value == "fail"


def test_every_alert_says_what_happened_and_what_to_do():
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "warn")
        assert "{{ $labels.pipeline }}" in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH (it comes with Prometheus)")
def test_promtool_agrees(tmp_path):
    promtool = str(shutil.which("promtool"))
    config, tests = RULES.with_name("prometheus.yml"), Path(__file__).with_name("alerts.promtool.yml")
    for command in (["check", "rules", str(RULES)], ["check", "config", str(config)], ["test", "rules", str(tests)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for said in (text(story()), live_text("churn-nightly", PROGRESS)):
        done = subprocess.run([promtool, "check", "metrics"], input=said, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool on the PATH (it comes with Alertmanager)")
def test_amtool_agrees():
    command = [str(shutil.which("amtool")), "check-config", str(RULES.with_name("alertmanager.yml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_that_are_inhibited_exist():
    said = yaml.safe_load(RULES.with_name("alertmanager.yml").read_text())["inhibit_rules"]
    named = {name for rule in said for side in rule.values() for one in side for name in re.findall(r"Scoring\w+", one)}
    assert named
    assert named <= {rule["alert"] for rule in rules()}


def test_the_run_ended_when_the_record_says():
    assert FINISHED.startswith("2026-01-04T01:02:05")
    assert samples(story())["scoring_last_run_timestamp_seconds",] == 1767488525.0
