"""What holds for every file in kernels/: it is found, proven against float64, and an operator that the compiler can carry."""

import inspect
import os
import warnings

import pytest
import torch
import walk
from walk import same

from scoring.kernels.frame import operator

CASES = list(walk.small_cases())
DEVICE = "cuda" if os.environ.get("SCORING_TEST_GPU") else "cpu"
each_case = pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.name}" for name, case in CASES])
each_kernel = pytest.mark.parametrize("name", walk.NAMES)


@each_case
def test_kernel_agrees_with_float64(name, case):
    walk.proven(walk.kernel(name), case.arguments(DEVICE))


@each_case
def test_reference_agrees_with_itself_in_float64(name, case):
    """The reference is the product on a CPU: its own precision must keep the tolerance too."""
    module = walk.kernel(name)
    stand_in = type("Reference", (), {"fused": staticmethod(module.reference), "reference": staticmethod(module.reference)})
    stand_in.TOLERANCES = module.TOLERANCES
    walk.proven(stand_in, case.arguments(DEVICE))


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter runs one program after the other: only a GPU could differ")
@each_case
def test_bits_do_not_depend_on_the_run(name, case):
    module, arguments = walk.kernel(name), case.arguments(DEVICE)
    one, other = (walk.poisoned(module.fused, **arguments) for _ in range(2))
    assert same(one, other)


@each_case
def test_operator_is_one_that_torch_accepts(name, case):
    """Schema, fake tensors and tracing with dynamic shapes agree with what is computed."""
    arguments = case.arguments(DEVICE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.library.opcheck(walk.kernel(name).op, (), arguments)


@each_kernel
def test_operator_survives_the_compiler(name):
    case = next(case for kernel, case in CASES if kernel == name)
    module, arguments = walk.kernel(name), case.arguments(DEVICE)
    torch.compiler.reset()  # it keeps count of how often this line was compiled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(lambda **given: module.op(**given), fullgraph=True, backend="aot_eager")(**arguments)
    assert same(compiled, module.op(**arguments))


@each_kernel
def test_route_follows_the_device_and_can_be_forced(name, monkeypatch):
    module = walk.kernel(name)
    case = next(case for kernel, case in CASES if kernel == name and module.refuses(**case.arguments()) is None)
    arguments = case.arguments("cpu")
    kernel, reference = (walk.poisoned(compute, **arguments) for compute in (module.fused, module.reference))
    assert same(module.op(**arguments), reference), "a CPU computes the reference"
    for word, want in (("torch", reference), ("triton", kernel)):
        monkeypatch.setenv("SCORING_KERNELS", word)
        assert same(walk.poisoned(module.op, **arguments), want)
    operator.force("torch")
    try:
        assert same(module.op(**arguments), reference), "what the process was told goes before the environment"
    finally:
        operator.force(None)
    monkeypatch.setenv("SCORING_KERNELS", "cuda")
    with pytest.raises(ValueError, match="SCORING_KERNELS is 'cuda'"):
        module.op(**arguments)


@each_kernel
def test_every_argument_is_checked_by_name(name):
    """A tensor of another dtype is refused with the argument's name, before anything is computed."""
    module = walk.kernel(name)
    case = next(case for kernel, case in CASES if kernel == name)
    arguments = case.arguments(DEVICE)
    for key, value in arguments.items():
        if isinstance(value, torch.Tensor):
            with pytest.raises((TypeError, ValueError), match=rf"{module.NAME}: argument '{key}'"):
                module.op(**{**arguments, key: value.to(torch.complex64)})


@each_kernel
def test_file_says_what_it_computes_and_must_move(name):
    module = walk.kernel(name)
    assert "Floor" in module.__doc__, "formula and floor stand in the docstring"
    for case in module.cases():
        if case.size == "small":
            floor = module.traffic(case.arguments("cpu"))
            assert floor.bytes >= 0
            assert floor.flops >= 0
    assert any(case.size == "large" for case in module.cases()), "nothing to time on a GPU"
    parts = ("reference", "fused", "check", "refuses", "fake")
    signatures = [inspect.signature(getattr(module, part)).parameters.keys() for part in parts]
    assert all(keys == signatures[0] for keys in signatures)
