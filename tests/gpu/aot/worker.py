"""Compiles on request: `python -m tests.gpu.aot.worker`, one JSON line in, one out. Never under Triton's interpreter.

{"list": true}                         -> [[identity, source hash, label], ...] of all that ships
{"build": identity, "target": "sm_80"} -> {"counts", "violations"} or {"violations": ["does not compile: ..."]}
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from functools import cache
from typing import Any

from .build import compile_for, counts_of, identity, needs_tensor_cores, violations
from .sources import source_hash
from .targets import TARGETS


@cache
def shipped() -> dict[str, Any]:
    from fused_rank.triton.configs import shipped as specialisations

    found = {identity(one): one for one in specialisations()}
    if len(found) != len(specialisations()):
        raise RuntimeError("two specialisations have one identity")
    return found


def listing() -> list[list[str]]:
    return [[name, source_hash(one.kernel, one.constexprs), one.label] for name, one in shipped().items()]


def build(name: str, target_name: str) -> dict[str, Any]:
    target = TARGETS[target_name]
    try:
        compiled = compile_for(shipped()[name], target)
    except Exception as error:  # whatever the compiler raises is a finding
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {
            "counts": {},
            "violations": [f"does not compile: {type(error).__name__}: {' '.join(lines[-3:])[:400]}"],
        }
    counts = counts_of(compiled, target)
    return {
        "counts": counts,
        "violations": violations(counts, target, needs_tensor_cores(compiled.asm["ttir"])),
    }


def main() -> None:
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit("TRITON_INTERPRET must be 0: there is nothing to compile under the interpreter")
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a compiler prints goes to stderr, answers alone to stdout
    for line in sys.stdin:
        request = json.loads(line)
        answer = listing() if "list" in request else build(request["build"], request["target"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
