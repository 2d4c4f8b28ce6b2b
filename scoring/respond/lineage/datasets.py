"""Datasets in and out with their facets: rows, model, scores, quarantine. Named as the specification's Naming.md says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openlineage.client import facet_v2 as facets
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.naming.dataset import GCS, S3, DatasetNaming, LocalFileSystem

from scoring.respond.story import Story, Told

_MASKING = ("pseudonymise", "mask", "generalise")
_OWN = ("model_version", "run_id")  # columns that we add
_MOST_ASSERTIONS = 500

Schema = facets.schema_dataset
Columns = facets.column_lineage_dataset
Quality = facets.data_quality_metrics_input_dataset
Assertions = facets.data_quality_assertions_dataset


def inputs(story: Story, ended: bool) -> list[InputDataset]:
    """The rows and the model. What was counted is known when the run has ended."""
    return [*_rows(story, ended), *_model(story)]


def so_far(story: Story, read: int, scored: int) -> tuple[list[InputDataset], list[OutputDataset]]:
    """Rows read and rows scored up to now. What was scored is not all published yet."""
    at = _source(story)
    counted = facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=read)
    inputs = [InputDataset(*at, inputFacets={"inputStatistics": counted})] if at else []
    made = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=scored)
    return inputs, [OutputDataset(*_place(f"{story.workspace}/scores"), outputFacets={"outputStatistics": made})]


def outputs(story: Story) -> list[OutputDataset]:
    """Scores, if any were published, and the quarantine, if anything is in it."""
    published = [p.manifest for p in story.partitions if p.manifest is not None]
    found = []
    if published:
        files = [file for manifest in published for file in manifest.files]
        said = {"schema": _schema(story.schema), "columnLineage": _lineage(story)}
        count = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=sum(f.rows for f in files), size=sum(f.bytes for f in files), fileCount=len(files)
        )
        at = _place(f"{story.workspace}/scores")
        found.append(OutputDataset(*at, facets=_present(said), outputFacets={"outputStatistics": count}))
    if story.record["rows"]["quarantined"]:
        kept = [file for manifest in published for file in manifest.quarantine]
        count = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=story.record["rows"]["quarantined"], size=sum(f.bytes for f in kept) or None, fileCount=len(kept) or None
        )
        at = _place(f"{story.workspace}/quarantine")
        found.append(OutputDataset(*at, outputFacets={"outputStatistics": count}))
    return found


def _place(path: str) -> tuple[str, str]:
    """Namespace and name of a folder."""
    scheme, found, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    named: DatasetNaming = LocalFileSystem(path)
    if found and scheme in ("s3", "gs"):
        named = S3(bucket, key) if scheme == "s3" else GCS(bucket, key)
    return (f"{scheme}://{bucket}", key) if scheme == "az" else (named.get_namespace(), named.get_name())


def _source(story: Story) -> tuple[str, str] | None:
    return _place(story.asked["source"]["path"]) if story.asked else None


def _rows(story: Story, ended: bool) -> Iterator[InputDataset]:
    at = _source(story)
    if at is None:
        return
    declared = {name: column["dtype"] for name, column in story.asked["columns"].items()}
    carried = dict.fromkeys(story.asked["carry"])  # of those that nobody declared, nobody said a type
    said = {"schema": _schema(tuple((carried | declared).items()))}
    yield InputDataset(*at, facets=_present(said), inputFacets=_present(_counted(story)) if ended else {})


def _counted(story: Story) -> dict[str, Any]:
    files, size = story.asked["files"], story.asked["bytes"]
    rows = story.record["rows"]["in"]
    return {
        "inputStatistics": facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rows, size, files),
        "dataQualityMetrics": _quality(story, rows, size, files),
        "dataQualityAssertions": _assertions(story),
    }


def _quality(story: Story, rows: int, size: int, files: int) -> Quality.DataQualityMetricsInputDatasetFacet | None:
    """Of rows that were admitted; least and largest values only where they are no person's."""
    summary = story.summary
    columns = {name: _metrics(counts, summary.rows) for name, counts in sorted(summary.of("columns").items())}
    if not columns:
        return None
    return Quality.DataQualityMetricsInputDatasetFacet(columnMetrics=columns, rowCount=rows, bytes=size, fileCount=files)


def _metrics(counts: Mapping[str, Any], rows: int) -> Quality.ColumnMetrics:
    null = int(counts["null"])
    least, most = (float(counts[end]) if counts.get(end) is not None else None for end in ("min", "max"))
    return Quality.ColumnMetrics(nullCount=null, count=float(rows - null), min=least, max=most)


def _assertions(story: Story) -> Assertions.DataQualityAssertionsDatasetFacet | None:
    """The checks. One line for all partitions of which a check says the same; what is wrong first."""
    found: dict[tuple[str, str | None, bool, str], list[tuple[Told, Mapping[str, Any]]]] = {}
    for partition in story.partitions:
        for check in partition.checks:
            if check["status"] != "skip":
                column = check["subject"] if check["subject"] in story.asked["columns"] else None
                key = (check["name"], column, check["status"] == "pass", check["severity"])
                found.setdefault(key, []).append((partition, check))
    ordered = sorted(found.items(), key=lambda item: (item[0][2], item[0][0], item[0][1] or ""))
    made = [_assertion(*key, seen) for key, seen in ordered[:_MOST_ASSERTIONS]]
    return Assertions.DataQualityAssertionsDatasetFacet(made) if made else None


def _assertion(
    name: str, column: str | None, success: bool, severity: str, seen: list[tuple[Told, Mapping[str, Any]]]
) -> Assertions.Assertion:
    partition, check = seen[0]
    return Assertions.Assertion(
        assertion=name,
        success=success,
        column=column,
        severity=severity,
        expected=check["expected"],
        actual=check["actual"],
        params={"partitions": len(seen), "first": partition.key},
    )


def _model(story: Story) -> Iterator[InputDataset]:
    """A wrong score walks back to the weights."""
    made_by = story.record["model"]
    if not made_by:
        return
    digest = facets.tags_dataset.TagsDatasetFacetFields("sha256", made_by["digest"], "SCORING")
    said = {
        "version": facets.dataset_version_dataset.DatasetVersionDatasetFacet(made_by["version"]),
        "datasetType": facets.dataset_type_dataset.DatasetTypeDatasetFacet("MODEL"),
        "tags": facets.tags_dataset.TagsDatasetFacet([digest]),
    }
    if story.asked:
        said["dataSource"] = facets.datasource_dataset.DatasourceDatasetFacet(made_by["name"], f"file://{story.asked['bundle']}")
    yield InputDataset("models", made_by["name"], facets=_present(said))


def _schema(columns: Sequence[tuple[str, str | None]]) -> Schema.SchemaDatasetFacet | None:
    if not columns:
        return None
    named = [Schema.SchemaDatasetFacetFields(n, kind, ordinal_position=place) for place, (n, kind) in enumerate(columns, 1)]
    return Schema.SchemaDatasetFacet(named)


def _lineage(story: Story) -> Columns.ColumnLineageDatasetFacet | None:
    """Carried columns come from themselves, scores from all inputs; all that is declared decides which rows come out at all."""
    at = _source(story)
    if at is None or not story.schema:
        return None
    features = [_field(at, name, "DIRECT", "TRANSFORMATION") for name in story.asked["inputs"]]
    made = {}
    for name, _ in story.schema:
        if name in story.asked["carry"]:
            made[name] = Columns.Fields([_carried(at, name, story.asked["columns"].get(name, {}).get("treatment"))])
        elif name not in _OWN:
            made[name] = Columns.Fields(features)
    filters = [_field(at, name, "INDIRECT", "FILTER") for name in story.asked["columns"]]
    return Columns.ColumnLineageDatasetFacet(made, filters)


def _carried(at: tuple[str, str], name: str, treatment: str | None) -> Columns.InputField:
    if treatment in _MASKING:
        return _field(at, name, "DIRECT", "TRANSFORMATION", masking=True, words=treatment)
    return _field(at, name, "DIRECT", "IDENTITY")


def _field(
    at: tuple[str, str], name: str, kind: str, subtype: str, masking: bool = False, words: str | None = None
) -> Columns.InputField:
    return Columns.InputField(*at, name, [Columns.Transformation(kind, subtype, words, masking)])


def _present(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in said.items() if one is not None}
