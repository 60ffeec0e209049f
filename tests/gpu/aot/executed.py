"""Counts per pair from running the compiled PTX in the emulator: the same on every run."""

from __future__ import annotations

from typing import Any

from .pool import Worker

SHAPE = (128, 128, 128)  # rows, gallery, width: whole tiles
CASES = (
    "ranked_list",
    "contrastive",
    "sup_con cosine self",
    "multi_similarity cosine self",
    "margin euclidean self",
    "triplet hard",
    "triplet semihard",
    "triplet all",
    "topk few",
)
RUNS = (("sm_80", "float32"), ("sm_90", "bfloat16"))


def measure(seen: Any = print) -> dict[str, dict[str, float]]:
    """{"kernel target dtype, case": counts per pair of the batch}; launches that walk no pairs are left out."""
    worker = Worker("tests.gpu.ptx_cases", "ptx")
    found: dict[str, dict[str, float]] = {}
    try:
        for target, dtype in RUNS:
            for case in CASES:
                seen(f"executing {case} for {target}, {dtype}")
                request = {"case": case, "target": target, "dtype": dtype, "shape": SHAPE, "profile": True}
                answer = worker.ask(request)
                if "failed" in answer:
                    raise RuntimeError(f"{case} for {target}: {answer['failed']}")
                for kernel, counts in answer["counts"].items():
                    if summary := per_pair(counts):
                        found[f"{kernel} {target} {dtype}, {case}"] = summary
    finally:
        worker.close()
    return found


def per_pair(counts: dict[str, int]) -> dict[str, float]:
    """Thread instructions and bytes by pair; sectors of a request (4 for a warp's 32 neighbouring words, 16 where each
    lane takes four), and their bytes over those asked for (1 where nothing is read in vain); conflicts.
    """
    pairs = SHAPE[0] * SHAPE[1]
    instructions = 32 * counts.get("warp instructions", 0) / pairs
    if instructions < 1:
        return {}
    loads = ("ld.global", "cp.global")
    requests, sectors, loaded = (
        sum(counts.get(f"{name} {what}", 0) for name in loads) for what in ("requests", "sectors", "bytes")
    )
    shared = ("ld.shared", "st.shared", "ldmatrix.shared", "stmatrix.shared")
    wavefronts, ideal = (
        sum(counts.get(f"{name} {what}", 0) for name in shared) for what in ("wavefronts", "ideal wavefronts")
    )
    products = sum(counts.get(f"instr {name}", 0) for name in ("mma", "wgmma"))
    values = {
        "instructions": instructions,
        "tensor-core instructions": 32 * products / pairs,
        "bytes loaded": loaded / pairs,
        "sectors per load request": sectors / requests if requests else 0.0,
        "sector bytes per byte": 32 * sectors / loaded if loaded else 0.0,
        "bank conflict factor": wavefronts / ideal if ideal else 1.0,
    }
    return {name: float(f"{value:.4g}") for name, value in values.items()}
