"""``python -m fused_rank info``: what is installed, which backend serves what, and why the others don't.

``python -m fused_rank selfcheck``: every operation on this machine's device against fp64, see `selfcheck`.
"""

import argparse
import platform
import sys

import torch

from . import __version__, backends, selfcheck
from .ops import cuda_library, dispatch, library, triton_library


def info() -> str:
    """The report, as text."""
    reason = library.load()
    lines = [
        f"fused_rank {__version__}",
        f"torch      {torch.__version__} ({torch.get_num_threads()} threads)",
        f"python     {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"extension  {library.runtime_info() if reason is None else reason}",
        f"triton     {triton_library.runtime_info()}",
        f"cuda       {cuda_library.runtime_info()}",
        f"forced     {dispatch.forced() or 'no backend (use_backend, FUSED_RANK_BACKEND)'}",
        "",
    ]
    table = backends()
    width = max(map(len, table))
    names = list(dispatch.BACKENDS)
    lines.append(" " * width + "".join(f"  {name:7}" for name in names))
    for operation, served in table.items():
        lines.append(
            f"{operation:{width}}" + "".join(f"  {'no' if served[name] else 'yes':7}" for name in names)
        )
    reasons = {(name, why): None for served in table.values() for name, why in served.items() if why}
    lines += [f"{name}: {why}" for name, why in reasons]
    return "\n".join(lines)


def main() -> int:
    """Parse the command line and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fused_rank")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions and backends")
    selfcheck.add_arguments(commands.add_parser("selfcheck", help="every operation here, against fp64"))
    options = parser.parse_args()
    if options.command == "selfcheck":
        return selfcheck.main(options)
    print(info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
