"""For all tests: how long an example takes is no verdict; a busy machine would decide it. Kernels run in Triton's interpreter,
which must be chosen before any of them is imported (SCORING_TEST_GPU=1: on the GPU, as compiled).
"""

import os

from hypothesis import HealthCheck, settings

if not os.environ.get("SCORING_TEST_GPU"):
    os.environ["TRITON_INTERPRET"] = "1"
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("house")
