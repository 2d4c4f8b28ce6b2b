"""What lies in deploy/ for Kubernetes, cron and container builds: against published schemas, and against what the product says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from nights import HERE, ROOT

from scoring.__main__ import settings
from scoring.orchestrators.command import Ending
from scoring.respond.verbs import VERBS

DEPLOY = ROOT / "deploy"
DEFINITIONS = json.loads((HERE / "schemas/kubernetes.json").read_text())["definitions"]
KINDS = {
    ("batch/v1", "CronJob"): "io.k8s.api.batch.v1.CronJob",
    ("batch/v1", "Job"): "io.k8s.api.batch.v1.Job",
    ("v1", "ConfigMap"): "io.k8s.api.core.v1.ConfigMap",
    ("v1", "PersistentVolumeClaim"): "io.k8s.api.core.v1.PersistentVolumeClaim",
    ("ray.io/v1", "RayJob"): "io.ray.v1.RayJob",
}
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def faults(document: dict[str, Any]) -> list[str]:
    kind = KINDS[document["apiVersion"], document["kind"]]
    schema = {"$ref": f"#/definitions/{kind}", "definitions": DEFINITIONS}
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft7Validator(schema).iter_errors(document)]


def inside(document: Any, key: str) -> Iterator[Any]:
    """All values of this key, however deep."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from inside(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from inside(value, key)


def pods(path: Path) -> list[dict[str, Any]]:
    return [p["spec"] for document in documents(path) for p in inside(document, "template") if "containers" in p.get("spec", {})]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_manifests_are_what_the_published_schemas_ask_for(path: Path) -> None:
    for document in documents(path):
        assert faults(document) == []


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "volumes.yaml"], ids=lambda p: p.name)
def test_a_key_that_is_spelt_wrong_is_found(path: Path) -> None:
    """The schemas can see: at the top, in a pod, and in a type."""
    document = documents(path)[0]
    for spoil in (
        lambda d: d["spec"].update(backofLimit=1),
        lambda d: next(iter(inside(d, "securityContext"))).update(runAsNonroot=True),
        lambda d: next(iter(inside(d, "terminationGracePeriodSeconds"))) and next(iter(inside(d, "containers")))[0].update(image=3),
    ):
        wrong = deepcopy(document)
        spoil(wrong)
        assert faults(wrong)


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "volumes.yaml"], ids=lambda p: p.name)
def test_pods_may_do_little_and_are_given_time(path: Path) -> None:
    for pod in pods(path):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["automountServiceAccountToken"] is False
        assert pod["terminationGracePeriodSeconds"] >= 60
        mounted = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]
            assert {mount["name"] for mount in container["volumeMounts"]} == mounted
            assert {"/tmp", "/dev/shm"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    assert len(pods(path)) >= 1


@pytest.mark.parametrize("name", ["cronjob.yaml", "backfill-job.yaml"])
def test_no_retry_repeats_what_the_data_decided(name: str) -> None:
    """The codes that fail the Job at once are those whose end is the same the next time."""
    document = documents(DEPLOY / "kubernetes" / name)[0]
    rules = next(inside(document, "podFailurePolicy"))["rules"]
    stopping = {code for rule in rules if rule["action"] == "FailJob" for code in rule["onExitCodes"]["values"]}
    assert stopping == {code for code in range(1, 256) if Ending(code, {}, []).verdict == "refused"}
    pod = pods(DEPLOY / "kubernetes" / name)[0]
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {pod["containers"][0]["name"]}
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["startupProbe"]["exec"]
    assert pod["containers"][0]["livenessProbe"]["exec"]


def test_a_ray_cluster_is_made_once_and_goes() -> None:
    spec = documents(DEPLOY / "kubernetes/rayjob.yaml")[0]["spec"]
    assert (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"], spec["shutdownAfterJobFinishes"]) == (0, 0, True)
    pinned = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    assert spec["rayClusterSpec"]["rayVersion"] == pinned[1]


def lines() -> Iterator[list[str]]:
    """What is called, in manifests and in cron, without the program."""
    for path in FILES:
        for pod in pods(path):
            yield from (container["args"] for container in pod["containers"] if "args" in container)
    yield shlex.split(documents(DEPLOY / "kubernetes/rayjob.yaml")[0]["spec"]["entrypoint"])[1:]
    for line in (DEPLOY / "cron/churn-nightly").read_text().splitlines():
        if "$SCORING" in line:
            yield shlex.split(line.partition("$SCORING ")[2].partition(" >>")[0])


@pytest.mark.parametrize("words", [list(one) for one in dict.fromkeys(map(tuple, lines()))], ids=" ".join)
def test_commands_are_commands_with_the_job_that_is_shipped(words: list[str], tmp_path: Path) -> None:
    verb, *rest = words
    conf = tmp_path / "job/churn-nightly.yaml"
    conf.parent.mkdir()
    conf.write_text(documents(DEPLOY / "kubernetes/volumes.yaml")[0]["data"]["churn-nightly.yaml"])
    own = [word for word in rest if word.partition("=")[0] in VERBS[verb].words]
    settled = [word for word in rest if word not in own and not word.startswith("--")]
    job, _ = settings(settled, str(tmp_path))
    assert job.workspace == "/srv/churn/workspace"
    assert "--config-dir=/srv/churn/conf" in rest


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, without comments, continued lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "docker/Dockerfile").read_text())
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in kept]


def test_images_are_pinned_and_end_as_a_user_without_rights() -> None:
    found = instructions()
    stages = [n for n, (word, _) in enumerate(found) if word == "FROM"]
    assert [found[n][1].rpartition(" AS ")[2] for n in stages] == ["build", "cpu", "cuda"]
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    assert re.fullmatch(r"3\.1[123]\.\d+-slim-\w+", arguments["PYTHON"])
    for first, end in zip(stages[1:], [*stages[2:], len(found)], strict=True):
        users = [rest for word, rest in found[first:end] if word == "USER"]
        assert users[-1] == "10001:10001"
    assert ("ENTRYPOINT", '["scoring"]') in found


def test_the_image_gets_what_an_installation_needs() -> None:
    """Paths exist and pass .dockerignore, versions are those of constraints.txt, extras are extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]}
    assert ignored[0] == "*"
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert all((ROOT / name).exists() for name in copied)
    assert {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"], "scoring", "pyproject.toml"} <= copied
    commands = "\n".join(rest for word, rest in instructions() if word == "RUN")
    torch = re.search(r"torch==(\S+)", commands)
    extras = re.search(r"'\.\[([\w,]+)\]'", commands)
    assert torch
    assert extras
    assert f"torch=={torch[1]}" in (ROOT / "constraints.txt").read_text().split()
    assert set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(ROOT / ".venv/bin"))
    if program is None:
        pytest.skip("no hadolint")
    done = subprocess.run([program, str(DEPLOY / "docker/Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
