"""Kernels run in Triton's interpreter, with bfloat16 that rounds (SCORING_TEST_GPU=1: on the GPU, as compiled)."""

import os

if not os.environ.get("SCORING_TEST_GPU"):
    import exact_bf16

    exact_bf16.install()
