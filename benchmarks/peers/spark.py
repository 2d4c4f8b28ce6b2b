"""The job as a careful user of PySpark writes it: spark.read.parquet, predict_batch_udf, write.parquet; local[2].

After https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.ml.functions.predict_batch_udf.html (the function that
makes the predictor loads the model once in each Python worker; scalar columns come as NumPy arrays, null as NaN) and
https://spark.apache.org/docs/latest/api/python/tutorial/sql/arrow_pandas.html (maxRecordsPerBatch is raised with the batch, for an
Arrow batch is what a batch of the model is cut from).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import numpy as np
from peers.forwards import Predictor, answer, inputs
from peers.task import BATCH, WORKERS, Task


def make(task: str) -> Callable[[], Callable[..., np.ndarray[Any, Any]]]:
    """What predict_batch_udf asks for."""

    def load() -> Callable[..., np.ndarray[Any, Any]]:
        predictor = Predictor(Task.read(task), 1)

        def predict(*columns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return predictor(columns)

        named = [Parameter(name, Parameter.POSITIONAL_ONLY) for name in predictor.inputs]
        predict.__signature__ = Signature(named)  # type: ignore[attr-defined] # predict_batch_udf counts them
        return predict

    return load


def run(task: Task) -> float:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import SparkSession
    from pyspark.sql.types import ArrayType, DataType, FloatType

    os.environ["PYSPARK_PYTHON"] = sys.executable
    batch, names = BATCH[task.family], inputs(task.family)
    spark = (
        SparkSession.builder.master(f"local[{WORKERS}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch))
        .config("spark.sql.files.minPartitionNum", "8")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    values: DataType = ArrayType(FloatType()) if task.family == "text" else FloatType()
    score = predict_batch_udf(make(task.written()), return_type=values, batch_size=batch)
    frame = spark.read.parquet(task.data)
    frame.select("id", score(*names).alias(answer(task.family))).write.mode("overwrite").parquet(task.out)
    ended = time.time()
    spark.stop()
    return ended
