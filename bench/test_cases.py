"""The cases under pytest-benchmark, whose saved runs compare commits:

pytest bench --benchmark-autosave        # at each commit
pytest bench --benchmark-compare         # against the last saved run
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from . import isolated
from .cases import CASES, Case
from .implementations import OURS, training

ROUNDS = 3
TIME_LIMIT = 60.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contender" not in metafunc.fixturenames:
        return
    full = metafunc.config.getoption("--bench-full", default=False)
    chosen = [case for case in CASES if not case.isolated and (case.headline or full)]
    # The compiled oracle spends its time compiling, and the commits compared change only ours.
    pairs = [
        (case, name) for case in chosen for name in (OURS, *(case.contenders(True) if full else ("eager",)))
    ]
    metafunc.parametrize(("case", "contender"), pairs, ids=[f"{case.name}-{name}" for case, name in pairs])


def test_training_step(benchmark: BenchmarkFixture, case: Case, contender: str) -> None:
    if contender not in (OURS, "eager"):
        outcome = isolated.measure(case, contender, time_limit=TIME_LIMIT)
        if outcome.status != "ok":
            pytest.skip(f"{outcome.status}: {outcome.message}")
    benchmark.group = case.name
    benchmark.extra_info.update(rows=case.rows, width=case.width, data=case.data, **case.options)
    step = training(contender, case)
    often = 10 if case.rows <= 256 else 1
    benchmark.pedantic(step, rounds=ROUNDS * often, iterations=often, warmup_rounds=1)
    assert step.value.isfinite()
    assert step.gradient.isfinite().all()
