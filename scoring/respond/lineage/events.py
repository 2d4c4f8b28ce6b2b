"""The events of one pass of a run: START, RUNNING, and COMPLETE, FAIL or ABORT. Pure functions of the story and the settings.

A run that was stopped and goes on keeps its id with us; for OpenLineage, where a run ends once, each pass is a run of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from openlineage.client import facet_v2 as facets
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.git import get_git_repo_url, get_git_version

from scoring import __version__
from scoring.respond.lineage.datasets import inputs, outputs, so_far
from scoring.respond.lineage.journal import run_id
from scoring.respond.story import Story
from scoring.settings import Lineage

PRODUCER = f"urn:scoring:{__version__}"
_ENDS = {"published": RunState.COMPLETE, "published-with-warnings": RunState.COMPLETE, "paused": RunState.ABORT}
_KIND = facets.job_type_job.JobTypeJobFacet(processingType="BATCH", integration="SCORING", jobType="JOB", producer=PRODUCER)
_PARENT = re.compile(r"(?P<namespace>.+)/(?P<name>[^/]+)/(?P<run>[0-9a-fA-F-]{36})")


def events(story: Story, settings: Lineage, environment: Mapping[str, str]) -> list[RunEvent]:
    """START and the end, of a run that did something."""
    facets.set_producer(PRODUCER)
    record = story.record
    run = Run(run_id(story), _run_facets(story, settings, environment))
    ended = Run(run.runId, {**(run.facets or {}), **_error(story)})
    job = Job(settings.namespace, story.name, _job_facets(story))
    state = _ENDS.get(record["status"], RunState.FAIL)
    told = partial(RunEvent, job=job, producer=PRODUCER)
    began = told(eventTime=record["started"], eventType=RunState.START, run=run, inputs=inputs(story, ended=False))
    end = told(eventTime=record["finished"], eventType=state, run=ended, inputs=inputs(story, ended=True), outputs=outputs(story))
    return [began, end]


def running(story: Story, settings: Lineage, environment: Mapping[str, str], progress: Mapping[str, Any], now: str) -> RunEvent:
    """How far a run is; `progress` is its progress.json, `now` is ISO 8601. Says nothing again that START has said."""
    facets.set_producer(PRODUCER)
    rows = progress["rows"]
    said = {"rows_done": rows["done"], "rows_planned": rows["planned"], "rows_per_second": progress["rows_per_second"]}
    run = Run(run_id(story), _run_facets(story, settings, environment, {name: str(value) for name, value in said.items()}))
    job = Job(settings.namespace, story.name, {"jobType": _KIND})
    read, written = so_far(story, rows["done"], progress["scored"])
    return RunEvent(eventTime=now, eventType=RunState.RUNNING, run=run, job=job, producer=PRODUCER, inputs=read, outputs=written)


def _run_facets(
    story: Story, settings: Lineage, environment: Mapping[str, str], more: Mapping[str, str] = MappingProxyType({})
) -> dict[str, facets.RunFacet]:
    parent = settings.parent or environment.get("OPENLINEAGE_PARENT_ID")
    tagged = {"scoring_run_id": story.record["run_id"], **more}
    tags = [facets.tags_run.TagsRunFacetFields(key, value, "SCORING") for key, value in tagged.items()]
    found: dict[str, facets.RunFacet] = {
        "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet(__version__, "scoring"),
        "tags": facets.tags_run.TagsRunFacet(tags),
    }
    if story.nominal:
        found["nominalTime"] = facets.nominal_time_run.NominalTimeRunFacet(*story.nominal)
    if parent and (named := _PARENT.fullmatch(parent)):
        run, job = facets.parent_run.Run(named["run"]), facets.parent_run.Job(named["namespace"], named["name"])
        found["parent"] = facets.parent_run.ParentRunFacet(run, job)
    return found


def _error(story: Story) -> dict[str, facets.RunFacet]:
    """Why it did not publish all it should have. A partition that is held did not come out: to a scheduler that is a failure."""
    record = story.record
    if record["status"] in ("published", "published-with-warnings"):
        return {}
    held = [p.key for p in story.partitions if p.status == "held"]
    words = record["message"] or (f"Held by a gate: {', '.join(held[:5])}." if held else f"The run ended as {record['status']}.")
    return {"errorMessage": facets.error_message_run.ErrorMessageRunFacet(words, "python")}


def _job_facets(story: Story) -> dict[str, facets.JobFacet]:
    found: dict[str, facets.JobFacet] = {"jobType": _KIND}
    if story.config:
        found["sourceCode"] = facets.source_code_job.SourceCodeJobFacet("YAML", story.config)
    if location := _location():
        found["sourceCodeLocation"] = location
    return found


def _location() -> facets.source_code_location_job.SourceCodeLocationJobFacet | None:
    """The repository from whose folder the job was started: that of the user's configuration."""
    here = Path.cwd()
    folder = next((place / ".git" for place in (here, *here.parents) if (place / ".git").is_dir()), None)
    if folder is None or not (remote := get_git_repo_url(git_dir=folder)):
        return None
    url = _public(remote)
    return facets.source_code_location_job.SourceCodeLocationJobFacet(
        type="git", url=url, repoUrl=url, version=get_git_version(folder)
    )


def _public(remote: str) -> str:
    """An address of a repository without the password that may stand in it."""
    parts = urlsplit(remote)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme else remote
