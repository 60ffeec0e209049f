"""Calls of the emulated kernels with the memory before and after, for `replay.cpp` to repeat under a sanitizer."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

TYPES = ("float32", "float64", "int32", "int64", "uint8")  # as ArrayType in calls.h
WIDTHS = dict(zip(TYPES, (4, 8, 4, 8, 1), strict=True))
Described = tuple[int, str, int]  # address, type, elements


class Recorder:
    """Stands where `fused_rank.cuda.kernels` has the emulated module."""

    def __init__(self, module: Any, file: BinaryIO) -> None:
        self.ask = module.ask
        self._module, self._file = module, file

    def run(
        self,
        name: str,
        arrays: Sequence[Described],
        sizes: Sequence[int],
        numbers: Sequence[float],
        term: str,
    ) -> None:
        """Runs the call and writes it down. An array given twice, as in self form, is one buffer."""
        buffers: dict[tuple[int, int], int] = {}
        described: list[int] = []
        for address, kind, count in arrays:
            key = (address, count * WIDTHS[kind])
            at = buffers.setdefault(key, len(buffers)) if count else -1
            described += [at, TYPES.index(kind), count]
        before = [ctypes.string_at(*key) for key in buffers]
        self._module.run(name, arrays, sizes, numbers, term)
        after = [ctypes.string_at(*key) for key in buffers]
        self._text(name)
        self._text(term)
        self._numbers("q", sizes)
        self._numbers("d", numbers)
        self._file.write(struct.pack("q", len(buffers)))
        for pair in zip(before, after, strict=True):
            for octets in pair:
                self._file.write(struct.pack("q", len(octets)) + octets)
        self._numbers("q", described)

    def _text(self, text: str) -> None:
        self._file.write(struct.pack("q", len(text)) + text.encode())

    def _numbers(self, kind: str, numbers: Sequence[float]) -> None:
        self._file.write(struct.pack(f"q{len(numbers)}{kind}", len(numbers), *numbers))


@contextmanager
def recording(path: Path) -> Iterator[None]:
    """Inside, calls are appended to the file."""
    from fused_rank.cuda import kernels

    with open(path, "ab") as file:
        recorder = Recorder(kernels._emulation(), file)
        with mock.patch.object(kernels, "_emulation", return_value=recorder):
            yield
