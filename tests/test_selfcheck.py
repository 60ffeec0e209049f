"""`python -m fused_rank selfcheck` passes here, and fails when any one operator is broken on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import torch
from torch import Tensor

from fused_rank import __main__, selfcheck
from fused_rank.ops import dispatch
from fused_rank.ops.schemas import SCHEMAS
from fused_rank.selfcheck import checks, runner
from fused_rank.selfcheck import oracle as compact

from . import oracle

CPU = torch.device("cpu")
FP32 = (torch.float32,)
USES = {  # an operation whose check runs the operator
    "pair_forward": "contrastive_loss",
    "pair_backward": "ranked_list_loss, exact",
    "triplet_forward": "triplet_margin_loss, hard",
    "triplet_backward": "triplet_margin_loss, band",
    "mine_hard": "mining.hard",
    "mine_semihard": "mining.semihard",
    "topk": "retrieval.topk",
    "indexed_distance": "paired_distance",
    "indexed_distance_backward": "triplet_margin_loss, listed",
}


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["fused_rank", "selfcheck", *arguments])
    return __main__.main()


def test_command_passes_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--device", "cpu", "--backend", "eager") == 0
    shown = capsys.readouterr().out
    assert "all agree with fp64" in shown
    if not torch.cuda.is_available():
        assert "no GPU" in shown
    for operation in checks.CHECKS:
        assert re.search(rf"^{re.escape(operation)} +eager .* eager ", shown, re.M), operation


def test_every_backend_of_the_cpu_passes() -> None:
    names = [name for name in selfcheck.able(CPU) if name in ("cpp", "eager")]
    lines = selfcheck.run(CPU, names, FP32)
    assert selfcheck.verdict(lines) == []
    assert {line.backend for line in lines if line.default} == {names[0], "eager"}


def test_every_operator_and_operation_is_checked() -> None:
    assert set(USES) == set(SCHEMAS)
    assert {name.split(",")[0] for name in checks.CHECKS} == {*dispatch.OPERATIONS, runner.WITHOUT_BACKEND}


@pytest.mark.parametrize("operator", USES)
def test_a_broken_operator_is_found(
    operator: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = dispatch.BACKENDS["eager"]
    monkeypatch.setattr(backend, operator, slightly_wrong(getattr(backend, operator)))
    monkeypatch.setattr(runner, "CHECKS", {USES[operator]: checks.CHECKS[USES[operator]]})
    assert run_command(monkeypatch, "--device", "cpu", "--backend", "eager") == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown
    assert f"wrong: {USES[operator]} in float32 under eager" in shown


def slightly_wrong(right: Callable[..., Any]) -> Callable[..., Any]:
    """The operator with the first row of its first result off: by 1%, or by one for indices."""

    def wrong(*args: Any) -> Any:
        results = right(*args)
        first = results if isinstance(results, Tensor) else results[0]
        damaged = first.clone()
        row = damaged[..., :1] if damaged.dim() == 2 and damaged.shape[0] <= 2 else damaged[:1]
        row.copy_(row * 1.01 if first.is_floating_point() else row + 1)
        return damaged if isinstance(results, Tensor) else (damaged, *results[1:])

    return wrong


def test_an_operator_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise IndexError("no such tile")

    monkeypatch.setattr(dispatch.BACKENDS["eager"], "topk", broken)
    monkeypatch.setattr(runner, "CHECKS", {"retrieval.topk": checks.CHECKS["retrieval.topk"]})
    lines = selfcheck.run(CPU, ["eager"], FP32)
    assert "IndexError: no such tile" in selfcheck.table(lines)
    assert selfcheck.verdict(lines)


def test_another_backend_in_place_of_the_one_asked_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "retrieval.topk"
    stand_in = dispatch.Backend("stand-in", "fused_rank_eager", None, None)
    monkeypatch.setitem(dispatch.BACKENDS, "stand-in", stand_in)
    monkeypatch.setattr(runner, "CHECKS", {name: checks.CHECKS[name]})
    lines = selfcheck.run(CPU, ["stand-in"], FP32)
    assert "eager ran in its place" in selfcheck.table(lines)


@pytest.mark.parametrize("name", ["triton", "cuda"])
def test_gpu_operators_without_kernels_are_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Claims(runner.Served):
        def __exit__(self, *exception: Any) -> None:
            super().__exit__(*exception)
            self.names[name] = None

    monkeypatch.setattr(runner, "Served", Claims)
    monkeypatch.setattr(runner, "CHECKS", {"retrieval.topk": checks.CHECKS["retrieval.topk"]})
    lines = selfcheck.run(CPU, ["eager"], FP32)
    assert "no kernel was launched" in selfcheck.table(lines)


def test_an_operation_that_nothing_serves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = dispatch.BACKENDS["eager"]
    monkeypatch.setattr(backend, "unavailable", lambda *_: "it has none")
    monkeypatch.setattr(runner, "CHECKS", {"mining.hard": checks.CHECKS["mining.hard"]})
    assert selfcheck.verdict(selfcheck.run(CPU, ["eager"], FP32)) == ["mining.hard in float32: nothing ran"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--device", "cuda") == 2
    assert "torch.cuda.is_available() is False" in capsys.readouterr().err


OPTIONS: dict[str, tuple[Callable[..., oracle.Rows], dict[str, Any]]] = {
    "ranked_list_loss, query": (oracle.ranked_list, {"gradient": "query"}),
    "ranked_list_loss, both": (oracle.ranked_list, {"gradient": "both"}),
    "ranked_list_loss, exact": (oracle.ranked_list, {"gradient": "exact"}),
    "contrastive_loss": (oracle.contrastive, {}),
    "sup_con_loss": (oracle.sup_con, {}),
    "triplet_margin_loss, hard": (oracle.triplet_margin, {"mining": "hard"}),
    "triplet_margin_loss, semihard": (oracle.triplet_margin, {"mining": "semihard"}),
    "triplet_margin_loss, all": (oracle.triplet_margin, {"mining": "all"}),
    "triplet_margin_loss, band": (oracle.triplet_margin, {"mining": "semihard_all"}),
}


@pytest.mark.parametrize("name", compact.LOSSES)
@pytest.mark.parametrize("shape", checks.SHAPES, ids=str)
def test_its_oracle_is_the_tests_oracle(name: str, shape: tuple[int, int | None, int]) -> None:
    theirs, options = OPTIONS[name]
    ours, other = (checks.make_batch(*shape, torch.float64, CPU, 0) for _ in range(2))
    value, gap = compact.LOSSES[name](ours.distances(detach=options.get("gradient") == "query"), *ours.masks)
    rows = theirs(other.exact_x, other.labels, other.exact_y, other.y_labels, **options)
    expected = rows.reduce("none")
    torch.testing.assert_close(value, expected)
    assert (
        gap <= rows.gap + 1e-12
    ).all() or name == "contrastive_loss"  # there a positive's corner is at d = 0
    upstream = torch.randn(len(value), dtype=torch.float64)
    value.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.exact_x.grad, other.exact_x.grad)


@pytest.mark.parametrize("name", compact.LOSSES)
@pytest.mark.parametrize("seed", range(len(checks.SHAPES)))
def test_most_queries_are_decided_and_both_parts_of_a_loss_matter(name: str, seed: int) -> None:
    batch = checks.make_batch(*checks.SHAPES[seed], torch.float32, CPU, seed)
    d = batch.distances().detach()
    value, gap = compact.LOSSES[name](d, *batch.masks)
    assert (gap > checks.TOLERANCES[torch.float32].gap).double().mean() > 0.6
    assert (value > 0).double().mean() > 0.9
    positive, negative = batch.masks
    for margin, pairs in ((0.8, positive), (1.0, negative), (1.2, negative)):
        assert 0.05 < (d[pairs] < margin).double().mean() < 0.97


def test_what_one_backend_does_not_serve_is_wrong_only_where_all_were_tried() -> None:
    served = runner.Cell(checks.Difference(0.0, 1.0))
    cells = {torch.float32: served, torch.float64: runner.Cell()}
    lines = [runner.Line("mining.hard", "narrow", cells=cells)]
    assert selfcheck.verdict(lines, complete=True) == ["mining.hard in float64: nothing ran"]
    assert selfcheck.verdict(lines, complete=False) == []
    nothing = [runner.Line("topk", "narrow", cells=dict.fromkeys(cells, runner.Cell()))]
    assert selfcheck.verdict(nothing, complete=False) == ["topk: nothing ran"]


def test_an_error_that_is_not_a_number_fails() -> None:
    assert runner.Cell(checks.Difference(float("nan"), 1.0)).failed
    assert not runner.Cell(checks.Difference(0.5, 1.0)).failed


def test_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: checks.CHECKS[name] for name in ("mining.hard", "retrieval.topk", "paired_distance")}
    monkeypatch.setattr(runner, "CHECKS", few)  # the workers look their own one up by name
    alone, together = (selfcheck.run(CPU, ["eager"], FP32, jobs=jobs) for jobs in (1, 2))
    assert [(line.operation, line.served, line.cells) for line in together] == [
        (line.operation, line.served, line.cells) for line in alone
    ]


def test_a_process_that_dies_fails_its_line() -> None:
    future: Future[runner.Line] = Future()
    future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
    line = runner._result(future, "mining.hard", "triton", FP32)
    assert selfcheck.verdict([line]) == ["mining.hard in float32 under triton"]
    assert "terminated abruptly" in selfcheck.table([line])
