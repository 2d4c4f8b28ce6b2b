"""Kernels run in Triton's interpreter, with bfloat16 that rounds (SCORING_TEST_GPU=1: on the GPU, as compiled)."""

import os

import numpy as np
import pytest

if not os.environ.get("SCORING_TEST_GPU"):
    import exact_bf16

    exact_bf16.install()


@pytest.fixture(autouse=True)
def _arithmetic_of_a_gpu():
    """Overflow and NaN raise nothing there; the interpreter's numpy would warn of garbage that a mask hides."""
    with np.errstate(all="ignore"):
        yield
