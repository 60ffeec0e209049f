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
from fused_rank.selfcheck import batch as batches
from fused_rank.selfcheck import checks, loss_checks, runner, tolerance
from fused_rank.selfcheck.loss_checks import LOSSES

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
    "rank_positives": "retrieval.evaluate",
    "find_partner": "mining.partners",
    "sample_negatives": "mining.distance_weighted",
    "triplet_counts": "mining.triplet_stats",
    "distance_histogram": "diagnostics.embedding_health",
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


@pytest.mark.parametrize("name", [*LOSSES, "margin_loss, learned"])
def test_a_loss_with_a_broken_operator_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = dispatch.BACKENDS["eager"]
    operators = dispatch.OPERATIONS[name.split(",")[0]]
    monkeypatch.setattr(runner, "CHECKS", {name: checks.CHECKS[name]})
    for operator in operators[:2]:  # forward and backward
        with monkeypatch.context() as broken:
            broken.setattr(backend, operator, slightly_wrong(getattr(backend, operator)))
            assert selfcheck.verdict(selfcheck.run(CPU, ["eager"], FP32), complete=False) == [
                f"{name} in float32 under eager"
            ]


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


def test_a_term_that_a_backend_lacks_is_shown_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch.BACKENDS["eager"], "terms", frozenset({"contrastive"}))
    monkeypatch.setattr(
        runner, "CHECKS", {name: checks.CHECKS[name] for name in ("circle_loss", "mining.hard")}
    )
    lines = selfcheck.run(CPU, ["eager"], FP32)
    shown = selfcheck.table(lines)
    assert re.search(r"^circle_loss +eager .* – ", shown, re.M)
    assert "backend 'eager' cannot serve circle_loss: it has no term circle" in shown
    assert not any(cell.failed for line in lines for cell in line.cells.values())
    assert selfcheck.verdict(lines, complete=True) == ["circle_loss in float32: nothing ran"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--device", "cuda") == 2
    assert "torch.cuda.is_available() is False" in capsys.readouterr().err


ORACLES: dict[str, Callable[..., oracle.Rows]] = {
    "ranked_list_loss": oracle.ranked_list,
    "contrastive_loss": oracle.contrastive,
    "triplet_margin_loss": oracle.triplet_margin,
    "margin_loss": oracle.margin,
    "sup_con_loss": oracle.sup_con,
    "info_nce_loss": oracle.info_nce,
    "nt_xent_loss": oracle.nt_xent,
    "n_pairs_loss": oracle.n_pairs,
    "angular_loss": oracle.angular,
    "multi_similarity_loss": oracle.multi_similarity,
    "circle_loss": oracle.circle,
    "lifted_structure_loss": oracle.lifted_structure,
}


SPARSE = {  # the share of queries that surely have a loss, where it is low by definition
    "angular_loss, unique": 0.2,  # one query a class
    "n_pairs_loss, unique": 0.2,
    "info_nce_loss": 0.7,  # half the rows, and only some with a positive among the others
    "multi_similarity_loss, mined": 0.8,
    "triplet_margin_loss, all, raw squared": 0.7,  # squares of raw rows lie farther apart
}


def assert_definitions_agree(
    name: str,
    shape: tuple[int, int | None, int],
    expected: Callable[[batches.Batch], tuple[Tensor, Tensor]],
    options: dict[str, Any],
    form: Callable[[batches.Batch], batches.Batch],
) -> None:
    ours, other = (batches.make_batch(*shape, torch.float64, CPU, 0) for _ in range(2))
    value, gap = expected(form(ours))
    given = form(other)
    labels = (None, None) if given.paired else (given.labels, given.y_labels)
    rows = ORACLES[name](given.exact_x, labels[0], given.exact_y, labels[1], **options)
    theirs = rows.reduce("none")
    torch.testing.assert_close(value, theirs)
    if name != "contrastive_loss":  # there a positive's corner is at d = 0
        assert (gap <= rows.gap + 1e-12).all()
    upstream = torch.randn(len(value), dtype=torch.float64)
    value.backward(upstream)
    theirs.backward(upstream)
    torch.testing.assert_close(ours.exact_x.grad, other.exact_x.grad)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", batches.SHAPES, ids=str)
def test_its_oracle_is_the_tests_oracle(name: str, shape: tuple[int, int | None, int]) -> None:
    loss = LOSSES[name]
    assert_definitions_agree(name.split(",")[0], shape, loss.expected, loss.options, loss.form)


def test_its_oracle_of_learned_borders_is_the_tests_oracle() -> None:
    border = 1.2 + 0.1 * torch.randn(40, dtype=torch.float64)
    assert_definitions_agree(
        "margin_loss",
        batches.SHAPES[1],
        lambda batch: loss_checks.margin_of_classes(batch, border, 0.5),
        {"beta": border, "nu": 0.5},
        lambda batch: batch,
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(len(batches.SHAPES)))
def test_most_queries_are_decided_and_both_parts_of_a_loss_matter(name: str, seed: int) -> None:
    batch = batches.make_batch(*batches.SHAPES[seed], torch.float32, CPU, seed)
    value, gap = LOSSES[name].expected(LOSSES[name].form(batch))
    assert (gap > tolerance.TOLERANCES[torch.float32].gap).double().mean() > 0.6
    assert (value > 0).double().mean() > SPARSE.get(name, 0.9)
    d = batch.distances().detach()
    positive, negative = batch.masks
    for margin, pairs in ((0.8, positive), (1.0, negative), (1.2, negative)):
        assert 0.05 < (d[pairs] < margin).double().mean() < 0.97


def test_what_one_backend_does_not_serve_is_wrong_only_where_all_were_tried() -> None:
    served = runner.Cell(tolerance.Difference(0.0, 1.0))
    cells = {torch.float32: served, torch.float64: runner.Cell()}
    lines = [runner.Line("mining.hard", "narrow", cells=cells)]
    assert selfcheck.verdict(lines, complete=True) == ["mining.hard in float64: nothing ran"]
    assert selfcheck.verdict(lines, complete=False) == []
    nothing = [runner.Line("topk", "narrow", cells=dict.fromkeys(cells, runner.Cell()))]
    assert selfcheck.verdict(nothing, complete=False) == ["topk: nothing ran"]


def test_an_error_that_is_not_a_number_fails() -> None:
    assert runner.Cell(tolerance.Difference(float("nan"), 1.0)).failed
    assert not runner.Cell(tolerance.Difference(0.5, 1.0)).failed


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
