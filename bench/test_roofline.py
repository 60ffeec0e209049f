"""The roofline against arithmetic done by hand, and its counts of eager PyTorch against eager PyTorch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from . import roofline_table
from .cases import Case
from .implementations import training
from .roofline import GPUS, Batch, Cost, floor
from .schemes import (
    COSTS,
    EAGER,
    Tile,
    eager,
    gradient,
    listed,
    plan,
    rank,
    seconds,
    selection,
    statistics,
    strip,
    strip_gradient,
    strip_pull,
    symmetric_statistics,
)

H100, A100 = GPUS["H100"], GPUS["A100"]


def test_statistics_in_fp32_on_an_h100() -> None:
    found = floor(statistics("ranked_list", Batch(4096, 128, "fp32")), H100)
    # u = 2 · 4096² · 128 = 4 294 967 296 FLOP, three times over at 494.7 TFLOP/s
    assert found.product == pytest.approx(12_884_901_888 / 494.7e12)
    assert found.product == pytest.approx(26.05e-6, rel=1e-3)
    # distance 5, root 3, fold 7; splitting 2 · 128 · (1/64 + 1/64) = 8: 23 instructions for each of 16 777 216 pairs,
    # of 132 · 128 · 1.83e9 = 30.92e12 a second
    assert found.epilogue == pytest.approx(23 * 16_777_216 / 30.91968e12)
    assert found.epilogue == pytest.approx(12.48e-6, rel=1e-3)
    # the 2 MiB of columns once for each of 64 row blocks, 9.37 TB/s
    assert found.l2 == pytest.approx(134_217_728 / 9.37e12)
    assert found.hbm == pytest.approx(2_097_152 / 3.35e12)
    assert found.seconds == found.product
    assert found.bound == "product"


def test_sixteen_bit_gradient_in_two_slices_on_an_a100() -> None:
    found = floor(gradient("ranked_list", Batch(16384, 512, "bf16")), A100)
    # u = 2 · 16384² · 512 = 274.9 GFLOP; S for each of two slices, C·X once for its high and once for its low part: 4u
    assert found.product == pytest.approx(1_099_511_627_776 / 312e12)
    assert found.product == pytest.approx(3.524e-3, rel=1e-3)
    # distance 5, root 3, slope 10, high and low part 2, in each of two slices: 40 a pair,
    # of 108 · 128 · 1.41e9 = 19.49e12 a second
    assert found.epilogue == pytest.approx(40 * 268_435_456 / 19.49184e12)
    # 16 MiB · 256 row blocks, for two S and one C·X
    assert found.l2 == pytest.approx(3 * 4_294_967_296 / 7.2e12)
    assert found.bound == "product"


def test_special_functions_bind_when_there_are_enough_of_them() -> None:
    batch, costs = Batch(4096, 128, "bf16"), dict(COSTS)
    costs["ranked_list fold"] = Cost(
        7, 6
    )  # and one root: 7 of 16 lanes, 132 · 16 · 1.83e9 = 3.86e12 a second
    found = floor(statistics("ranked_list", batch, costs=costs), H100)
    assert found.epilogue == pytest.approx(7 * 16_777_216 / 3.86496e12)
    assert found.bound == "epilogue"


def test_exact_selection_issues_products_and_epilogue_from_the_same_schedulers() -> None:
    found = floor(selection(Batch(4096, 128, "fp32")), H100)
    # half of 4.295 GFLOP at 66.9 TFLOP/s, and (5 + 2 · 3) instructions for half of the pairs
    assert found.product == pytest.approx(2_147_483_648 / 66.9e12)
    assert found.epilogue == pytest.approx(11 * 8_388_608 / 30.91968e12)
    assert found.seconds == pytest.approx(32.1e-6 + 2.98e-6, rel=1e-3)


def test_a_strip_is_written_and_read_for_every_chunk_of_positives() -> None:
    batch = Batch(4096, 128, "fp32", positives=9)
    filled = floor(strip(batch), H100)
    # 4.295 GFLOP on the FMA pipe; distance 5 and a store; 2 MiB of columns for 64 row blocks and 4 bytes a pair
    assert filled.product == pytest.approx(4_294_967_296 / 66.9e12)
    assert filled.epilogue == pytest.approx(6 * 16_777_216 / 30.91968e12)
    assert filled.l2 == pytest.approx((134_217_728 + 4 * 16_777_216) / 9.37e12)
    # 9 positives in chunks of 4: three readings, three roots; three instructions a positive
    ranked = floor(rank(batch, "rank"), H100)
    assert ranked.product == 0
    assert ranked.epilogue == pytest.approx((3 * 3 + 9 * 3) * 16_777_216 / 30.91968e12)
    assert ranked.l2 == pytest.approx(3 * 4 * 16_777_216 / 9.37e12)


def test_pulling_from_a_strip() -> None:
    # D = 512 in slices of 64: 5 bytes a pair eight times over, and 4 MiB of columns for 64 row blocks
    bf16 = strip_pull(Batch(4096, 512, "bf16"), Tile(slice=64))
    assert bf16.l2_bytes == 8 * 5 * 16_777_216 + 64 * 4_194_304
    assert bf16.flop == {"half": 2 * 17_179_869_184}  # a high and a low part
    assert strip_pull(Batch(4096, 512, "fp16")).flop == {
        "tf32": 2 * 17_179_869_184
    }  # the same, and fp16 is exact


def test_fp16_gradient_takes_both_pipes() -> None:
    batch = Batch(4096, 128, "fp16")
    swept = gradient("contrastive", batch)
    assert swept.flop == {"half": batch.product, "tf32": 2 * batch.product}
    assert floor(swept, A100).product == pytest.approx(batch.product / 312e12 + 2 * batch.product / 156e12)


def test_eager_adds_its_parts() -> None:
    found = floor(eager("ranked_list query", Batch(4096, 512, "bf16")), A100)
    # 2u = 34.36 GFLOP at 19.5 TFLOP/s, widened to fp32; 303 bytes for each of 16.8 M pairs at 2.039 TB/s
    assert found.product == pytest.approx(34_359_738_368 / 19.5e12)
    assert found.hbm == pytest.approx(303 * 16_777_216 / 2.039e12)
    assert found.seconds == pytest.approx(1.762e-3 + 2.493e-3, rel=1e-3)


def test_mined_backward_reads_two_rows_an_edge() -> None:
    batch = Batch(4096, 128, "bf16")
    assert listed(batch, 8192).l2_bytes == 8192 * 2 * 128 * 2
    both = plan("hard", batch)
    assert [sweep.name for sweep in both] == ["selection", "listed pairs"]
    assert seconds(both, H100) == sum(floor(sweep, H100).seconds for sweep in both)


def test_alternatives() -> None:
    batch, tile = Batch(16384, 512, "fp32"), Tile(slice=128)
    half, whole = symmetric_statistics("contrastive", batch), statistics("contrastive", batch)
    assert half.flop["tf32"] * 2 == whole.flop["tf32"]
    # four slices recompute S: 5u; a strip does not: 2u, and moves 4 bytes a pair once in and four times out
    sliced, strips = gradient("contrastive", batch, tile), strip_gradient("contrastive", batch, tile)
    assert sliced.flop["tf32"] / strips.flop["tf32"] == 2.5
    assert strips.l2_bytes == batch.bytes * 256 * 2 + 20 * batch.pairs
    # exact products: ½u at 66.9 TFLOP/s; three of them at 494.7: 2.5 times faster, on paper
    exact, tensor = (floor(selection(batch, exact=rule), H100).product for rule in (True, False))
    assert exact / tensor == pytest.approx(494.7 / 66.9 / 3)


def test_the_query_gradient_needs_no_sweep_before_it() -> None:
    batch = Batch(16384, 128, "bf16")
    assert [sweep.name for sweep in plan("ranked_list query", batch)] == ["one pass"]
    assert [sweep.name for sweep in plan("ranked_list both", batch)] == ["statistics", "gradient"]
    assert sum(plan("ranked_list query", batch)[0].flop.values()) == 3 * batch.product  # S, and C's two parts


def test_wide_rows_go_through_strips() -> None:
    batch = Batch(16384, 512, "fp32")
    first, made, multiplied = plan("ranked_list query", batch)
    assert [first.name, made.name, multiplied.name] == ["statistics", "coefficients", "strip times rows"]
    assert made.flop == multiplied.flop == {"tf32": 3 * batch.product}  # 1u each, and 1u of statistics
    # columns once a row block of 64; C once written, and read for each of four slices of 128
    assert made.l2_bytes == batch.bytes * 256 + 4 * batch.pairs
    assert multiplied.l2_bytes == batch.bytes * 256 + 16 * batch.pairs


def test_plans_of_all_triplets_end_in_two_pulls() -> None:
    names = [sweep.name for sweep in plan("all", Batch(4096, 128, "fp32"))]
    assert names == ["strip", "rank", "strip", "coefficients", "strip pull, anchors", "strip pull, others"]


class _Passes(TorchDispatchMode):
    """Bytes of B×B tensors that the operators read and write."""

    def __init__(self, smallest: int) -> None:
        super().__init__()
        self.smallest, self.bytes = smallest, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            for value in tree_flatten((args, kwargs, out))[0]:
                if isinstance(value, torch.Tensor) and value.numel() >= self.smallest:
                    self.bytes += value.untyped_storage().nbytes()
        return out


@pytest.mark.parametrize("loss", EAGER)
def test_passes_of_the_eager_oracle(loss: str) -> None:
    name, _, gradient_rule = loss.partition(" ")
    triplet = {"hard": "hard", "semihard": "semihard", "all": "all", "band": "semihard_all"}.get(name)
    options = {"mining": triplet} if triplet else {"gradient": gradient_rule} if gradient_rule else {}
    case = Case(loss, "triplet" if triplet else name, 96, 24, "early", options)  # type: ignore[arg-type]
    step = training("eager", case)
    with _Passes(96 * 96) as passes:
        step()
    with FlopCounterMode(display=False) as flop:
        step()
    assert round(passes.bytes / 96**2) == EAGER[loss][0]
    assert flop.get_total_flops() == EAGER[loss][1] * 2 * 96 * 96 * 24


def test_the_page_has_these_tables(tmp_path: Path) -> None:
    page = roofline_table.PAGE.read_text(encoding="utf-8")
    assert roofline_table.documentation() in page, (
        "docs/gpu.md is old: run `python -m bench.roofline --write`"
    )
    copy = tmp_path / "gpu.md"
    copy.write_text(page, encoding="utf-8")
    roofline_table.write(copy)
    assert copy.read_text(encoding="utf-8") == page


def test_command_line_prints_every_loss(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["roofline", "--gpu", "A100", "--rows", "1024", "--dtype", "fp16"])
    roofline_table.main()
    shown = capsys.readouterr().out
    assert "nothing is measured" in shown
    assert all(f"\n{loss}:" in shown for loss in EAGER)
