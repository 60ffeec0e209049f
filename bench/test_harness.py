"""The harness's own arithmetic: schedules, units, estimates, bars, tables and saved runs."""

import itertools
import time
from pathlib import Path

import pytest
import torch

from . import accuracy, cases, charts, data, isolated, peers, results, table, timing, unit, verdicts
from .cases import CASES
from .implementations import LABELS, OURS, training
from .results import Point, Result, Row, Run
from .timing import Quantiles

GIB = 2**30


def test_quantiles_skip_the_rounds_sat_out() -> None:
    found = timing.quantiles([None, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None])
    assert (found.p20, found.p50, found.p80) == pytest.approx((2.0, 3.5, 5.0))
    with pytest.raises(ValueError, match="at least one sample"):
        timing.quantiles([None])


def test_paired_ratio_takes_only_rounds_both_ran() -> None:
    assert timing.paired_ratio([8.0, None, 6.0, 100.0], [2.0, 1.0, 2.0, None]) == 3.5


@pytest.mark.parametrize(("count", "rounds"), [(1, 1), (1, 7), (3, 10), (7, 7), (40, 41)])
def test_turns_are_as_many_as_asked_and_spread(count: int, rounds: int) -> None:
    taken = [index for index, runs in enumerate(timing.turns(count, rounds)) if runs]
    assert len(taken) == count
    assert taken[0] == 0
    gaps = [b - a for a, b in itertools.pairwise(taken)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_repeats_follow_cost() -> None:
    assert timing.repeats(0.01, budget=1.0, least=5, most=40) == 40
    assert timing.repeats(0.5, budget=1.0, least=5, most=40) == 5
    assert timing.repeats(2.0, budget=1.0, least=5, most=40) == 2
    assert timing.repeats(4.0, budget=1.0, least=5, most=40) == 1


def test_interleave_gives_every_step_a_first_turn() -> None:
    order: list[str] = []
    steps = {name: (lambda name=name: order.append(name)) for name in "abc"}
    samples = timing.interleave(steps, budget=0.05, least=3)
    assert list(dict.fromkeys(order)) == ["a", "b", "c"]
    lengths = {len(taken) for taken in samples.values()}
    assert len(lengths) == 1
    assert min(lengths) >= 3


def test_unit_converts_products_to_flop() -> None:
    assert unit.products(4096, 512) == 64  # exactly u
    assert unit.seconds(0.1, 4096, 512) == pytest.approx(0.1)
    assert unit.seconds(0.1, 8192, 512) == pytest.approx(0.4)  # as many products, four times the work
    assert unit.products(128, 128) == 8
    assert unit.seconds(0.1, 512, 512) == pytest.approx(0.1 / 8)


def test_estimates_grow_as_the_contender_does() -> None:
    case = cases.find("all-2048-early")
    assert isolated.estimated_bytes("cubic", case) == 32 * GIB
    assert isolated.estimated_bytes("eager", case.resized(131072)) > 64 * GIB
    assert isolated.estimated_bytes(OURS, case.resized(131072)) < GIB


def test_what_cannot_fit_is_not_tried() -> None:
    outcome = isolated.measure(cases.find("all-2048-early").resized(65536), "cubic", time_limit=1)
    assert outcome.status == "out of memory"
    assert "GiB" in outcome.message


def test_peak_memory_sees_a_tensor_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def sixty_four_mebibytes() -> None:
        kept = torch.ones(16 * 2**20)
        time.sleep(0.05)  # long enough for the sampler, however busy the machine
        del kept

    for refuse in (False, True):
        if refuse:  # as where /proc/self/clear_refs is not writable
            monkeypatch.setattr(isolated, "_peak_resident", isolated._sampled_resident)
        peak, _ = isolated._peak(sixty_four_mebibytes)  # type: ignore[arg-type]
        assert 60 * 2**20 < peak < 80 * 2**20


def test_isolated_step_reports_time_memory_and_unit() -> None:
    case = cases.find("rll-both-4096-early").resized(256, 64)
    outcome = isolated.measure(case, "eager", time_limit=60, with_unit=True)
    assert outcome.status == "ok", outcome.message
    assert outcome.seconds > 0
    assert outcome.unit_seconds > 0
    assert 0 < outcome.peak_bytes < GIB


def test_data_sets_are_what_they_say() -> None:
    for width in (128, 512):
        assert 0.4 < data.active_negatives(*data.make("early", 2048, width)) < 0.6
        assert data.active_negatives(*data.make("late", 2048, width)) < 0.002
    x, labels = data.make("collapsed-mixed", 64, 32)
    assert torch.equal(labels.bincount(), torch.full((16,), 4))
    distances = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    same_cluster = (labels % 2)[:, None] == (labels % 2)[None, :]
    assert distances[same_cluster].max() < 3e-4
    assert distances[~same_cluster].min() > 0.5


def test_relative_error_of_zero_is_absolute() -> None:
    assert accuracy.relative(torch.tensor([3.0]), torch.tensor([2.0])) == 0.5
    assert accuracy.relative(torch.tensor([0.0]), torch.tensor([0.0])) == 0.0


def test_cases_are_consistent() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for case in CASES:
        assert case.data in data.SETS
        assert set(case.contenders(True)) <= set(LABELS)
        for bar in case.bars:
            assert bar.kind != "faster" or bar.against in case.baselines
            assert bar.kind != "time of" or bar.against in names
    with pytest.raises(KeyError, match="no case is named"):
        cases.find("nothing")


@pytest.mark.parametrize("mine", [peers.semihard_by_sort, peers.semihard_by_slot])
def test_quadratic_semihard_is_the_oracle(mine: peers.LossFunction) -> None:
    case = cases.find("semihard-4096-early").resized(64, 16)
    exact = training("eager", case, torch.float64)
    exact()
    exact_gradient = exact.gradient.clone()
    exact.loss = mine
    value = exact.value
    exact()
    torch.testing.assert_close(exact.value, value)
    torch.testing.assert_close(exact.gradient, exact_gradient)


def test_cubic_all_triplets_is_the_oracle() -> None:
    case = cases.find("all-2048-early").resized(32, 16)
    exact, cubic = (training(name, case, torch.float64) for name in ("eager", "cubic"))
    exact()
    cubic()
    torch.testing.assert_close(cubic.value, exact.value)
    torch.testing.assert_close(cubic.gradient, exact.gradient)


def _run() -> Run:
    case = cases.find("hard-4096-late")
    quantiles = Quantiles(0.1, 0.2, 0.3)
    ours = Result(OURS, quantiles, 5, 0.7, 1.0, 2**20, 1e-7, 2e-7)
    theirs = Result("pml", quantiles, 2, 14.0, 20.0)
    row = Row(case.name, case.loss, {}, case.rows, case.width, case.data, 0.1, 0.0, [ours, theirs])
    row.verdicts = [verdicts.judge(bar, row, [row]) for bar in case.bars]
    point = Point("a loss", OURS, 512, 64, 0.1, 2**20)
    words = ("cpu", "cores", "threads", "isa", "memory_gib", "system", "torch", "fused_rank", "commit")
    machine = dict.fromkeys(words, "x")
    return Run(machine, {}, [row], [point, Point("a loss", "eager", 512, 64, None, None, "out of memory")])


def test_bars_are_judged() -> None:
    row = _run().rows[0]
    assert [verdict.met for verdict in row.verdicts] == [True, True]
    row.results[0].units, row.results[1].slower = 0.8, 14.0
    assert [verdicts.judge(verdict.bar, row, [row]).met for verdict in row.verdicts] == [False, False]
    assert verdicts.judge(cases.time_of("elsewhere", 1.5), row, [row]).met is None
    assert verdicts.judge(cases.time_of(row.case, 1.5), row, [row]).measured == 1.0


def test_saved_runs_come_back(tmp_path: Path) -> None:
    run = _run()
    results.save(run, tmp_path / "run.json")
    assert results.load(tmp_path / "run.json") == run
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="format"):
        results.load(tmp_path / "other.json")


def test_tables_hold_every_result() -> None:
    run = _run()
    text = table.whole_markdown(run)
    assert all(LABELS[result.implementation] in text for result in run.rows[0].results)
    assert "≥ 15 × pml" in text
    lines = table.terminal(("a", "b"), [("longer", "1"), ("x", "22")], 1).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert table.comparison_rows(run, run)[0][-1] == "1.00"


def test_charts_are_drawn(tmp_path: Path) -> None:
    drawn = charts.draw(_run(), tmp_path)
    assert [path.name for path in drawn] == ["time.png", "memory.png"]
    assert all(path.stat().st_size > 1000 for path in drawn)
