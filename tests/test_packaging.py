"""Import without the extension, choice of backend, `python -m fused_rank info`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fused_rank
from fused_rank.ops import dispatch

from .conftest import BACKENDS, Backend

STEP = """
import warnings, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fused_rank
    imported = len(caught)
    x, labels = torch.randn(20, 4, requires_grad=True), torch.arange(20) // 4
    for loss in (fused_rank.RankedListLoss(), fused_rank.ContrastiveLoss(), fused_rank.TripletMarginLoss()):
        loss(x, labels).backward()
    fused_rank.mining.hard(x.detach(), labels)
assert x.grad.isfinite().all() and x.grad.any()
messages = [str(w.message) for w in caught if "fused_rank" in str(w.message)]
print(imported, len(messages), *messages, sep="\\n")
"""


def python(
    *arguments: str, package: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python where `package` holds fused_rank: this very one unless another is given."""
    root = package or Path(fused_rank.__file__).parent.parent
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FUSED_RANK_")}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        env={**kept, "PYTHONPATH": str(root), **variables},
    )


def checked(*arguments: str, package: Path | None = None, **variables: str) -> str:
    run = python(*arguments, package=package, **variables)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def without_extension(tmp_path: Path) -> Path:
    """A copy of the package as pip leaves it where nothing could be compiled."""
    source = Path(fused_rank.__file__).parent
    for file in source.rglob("*.py"):
        target = tmp_path / "fused_rank" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path


def test_works_without_the_extension_after_one_warning(without_extension: Path) -> None:
    """Import is silent; the first use warns once, with the reason and the remedy."""
    imported, count, *message = checked("-c", STEP, package=without_extension).splitlines()
    assert (imported, count) == ("0", "1")
    text = "\n".join(message)
    assert "eager" in text
    assert "not built" in text
    assert "nstall" in text
    assert "python -m fused_rank info" in text


def test_an_unknown_instruction_set_is_a_reason_not_a_crash() -> None:
    _, count, *message = checked("-c", STEP, FUSED_RANK_ISA="mmx").splitlines()
    assert count == "1"
    assert "mmx" in "\n".join(message)


def test_asking_for_a_missing_backend_is_an_error_with_the_reason(without_extension: Path) -> None:
    call = "import fused_rank; fused_rank.use_backend('cpp')"
    run = python("-c", call, package=without_extension)
    assert run.returncode != 0
    assert "RuntimeError" in run.stderr
    assert "cpp" in run.stderr
    assert "not built" in run.stderr
    run = python("-c", STEP, package=without_extension, FUSED_RANK_BACKEND="cpp")
    assert run.returncode != 0
    assert "not built" in run.stderr


def test_an_unknown_backend_in_the_environment_names_itself() -> None:
    run = python("-c", STEP, FUSED_RANK_BACKEND="fortran")
    assert run.returncode != 0
    assert "fortran" in run.stderr
    assert "eager" in run.stderr


def test_asking_for_eager_silences_the_warning() -> None:
    assert checked("-c", STEP, FUSED_RANK_BACKEND="eager").splitlines() == ["0", "0"]


def test_info(backend: Backend) -> None:
    text = checked("-m", "fused_rank", "info")
    for word in (fused_rank.__version__, torch.__version__, *BACKENDS, *fused_rank.backends()):
        assert word in text


def test_info_gives_the_reason(without_extension: Path) -> None:
    text = checked("-m", "fused_rank", "info", package=without_extension)
    assert "not built" in text


class Operators(TorchDispatchMode):
    """Records the namespaces of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.namespaces: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.namespaces.add(func.namespace)
        return func(*args, **(kwargs or {}))


def serving(device: str = "cpu") -> str:
    """The namespace of the backend that runs a loss."""
    with Operators() as operators:
        fused_rank.RankedListLoss()(torch.randn(8, 3, device=device), torch.arange(8, device=device) // 2)
    (namespace,) = (name for name in operators.namespaces if name.startswith("fused_rank"))
    return namespace


def test_one_use_backend_object_for_several_blocks() -> None:
    eager = fused_rank.use_backend("eager")
    with eager:
        pass
    assert dispatch.forced() is None
    with eager, eager:
        assert dispatch.forced() == "eager"
    assert dispatch.forced() is None


def test_a_preset_backend_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSED_RANK_BACKEND", "opencl")
    monkeypatch.setattr(dispatch, "_forced", "opencl")
    with pytest.raises(ValueError, match=r"FUSED_RANK_BACKEND: expected one of cpp.*got 'opencl'"):
        fused_rank.mining.hard(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]))


def test_use_backend_as_function_and_context() -> None:
    before = serving()
    with fused_rank.use_backend("eager"):
        assert serving() == "fused_rank_eager"
        with fused_rank.use_backend(None):
            assert serving() == before
        assert serving() == "fused_rank_eager"
    assert serving() == before
    try:
        fused_rank.use_backend("eager")
        assert serving() == "fused_rank_eager"
    finally:
        fused_rank.use_backend(None)


def test_the_backend_asked_for_serves(backend: Backend) -> None:
    own = "fused_rank" if backend.name == "cpp" else f"fused_rank_{backend.name}"
    assert serving(backend.device) == own


def test_the_package_is_typed() -> None:
    assert (Path(fused_rank.__file__).parent / "py.typed").is_file()
