"""`pytest bench`: the benchmarks run, whatever the project's default for the rest of the tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench-full", action="store_true", help="every case and baseline")


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_skip = False
