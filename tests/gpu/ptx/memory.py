"""Global and shared memory, and everything that may go wrong with an access."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .formats import Array, PTXError
from .registers import WARP

NOBODY, SEVERAL = -2, -1  # instead of a warp number


class Region(NamedTuple):
    start: int
    octets: Array  # a view of the caller's memory


class Global:
    """The arrays the kernel was given, at their real addresses; any other address is out of bounds."""

    def __init__(self) -> None:
        self.regions: list[Region] = []

    def register(self, address: int, size: int) -> None:
        if size:
            octets = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
            self.regions.append(Region(address, octets))

    def find(self, addresses: Array, size: int, text: str) -> Iterator[tuple[Array, Array, Array]]:
        """Per region with accesses: which of them, its bytes, and the index [n, size] of the bytes."""
        if (addresses % size).any():
            raise PTXError(f"misaligned global access, {int(addresses[addresses % size != 0][0]):#x}: {text}")
        left = np.ones(len(addresses), bool)
        for start, octets in self.regions:
            inside = left & (addresses >= start) & (addresses + size <= start + len(octets))
            if inside.any():
                left &= ~inside
                yield inside, octets, (addresses[inside] - start)[:, None] + np.arange(size)
            if not left.any():
                return
        raise PTXError(f"global access out of bounds, {int(addresses[left][0]):#x} of {size} bytes: {text}")

    def load(self, addresses: Array, size: int, text: str) -> Array:
        values = np.empty((len(addresses), size), np.uint8)
        for which, octets, index in self.find(addresses, size, text):
            values[which] = octets[index]
        return values

    def store(self, addresses: Array, values: Array, text: str) -> None:
        for which, octets, index in self.find(addresses, values.shape[1], text):
            octets[index] = values[which]


class Shared:
    """Shared memory of one block, byte by byte: who touched it since the last barrier, and what is in flight.

    Two warps may not touch a byte in the same interval between barriers when one of them writes it. A byte that an
    asynchronous copy will fill may not be touched before its wait, nor one written that a product still reads.
    """

    def __init__(self, size: int) -> None:
        self.octets = np.full(size, 0xFF, np.uint8)  # NaN until written
        self.interval = 1
        self.written, self.was_read = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.writer, self.reader = np.full(size, NOBODY, np.int32), np.full(size, NOBODY, np.int32)
        self.filling, self.being_read = np.zeros(size, np.int32), np.zeros(size, np.int32)

    def index(self, addresses: Array, size: int, text: str) -> Array:
        if (addresses % size).any():
            raise PTXError(f"misaligned shared access: {text}")
        if (addresses < 0).any() or (addresses + size > len(self.octets)).any():
            raise PTXError(
                f"shared access out of bounds, {int(addresses.max())} of {len(self.octets)}: {text}"
            )
        return addresses[:, None] + np.arange(size)

    def load(self, addresses: Array, size: int, threads: Array, text: str) -> Array:
        index = self.index(addresses, size, text)
        self.mark_read(index, np.broadcast_to((threads // WARP)[:, None], index.shape), text)
        return self.octets[index]

    def store(self, addresses: Array, values: Array, threads: Array, text: str) -> None:
        index = self.index(addresses, values.shape[1], text)
        self.mark_written(index, values, (threads // WARP)[:, None], text)

    def mark_read(self, index: Array, warp: Any, text: str) -> None:
        if ((self.written[index] == self.interval) & (self.writer[index] != warp)).any():
            raise PTXError(f"shared memory race, written by another warp since the barrier: {text}")
        if self.filling[index].any():
            raise PTXError(f"read of shared memory that an asynchronous copy still fills: {text}")
        alone = (self.was_read[index] != self.interval) | (self.reader[index] == warp)
        self.reader[index] = np.where(alone, warp, SEVERAL)
        shared = (
            self.reader[index] != warp
        )  # several warps in this instruction: the last must not hide the others
        self.reader[index[shared]] = SEVERAL
        self.was_read[index] = self.interval

    def mark_written(self, index: Array, values: Array, warp: Any, text: str) -> None:
        """Two warps may write the same value, as replicated layouts do; of a warp's own lanes one wins."""
        rewritten = (self.written[index] == self.interval) & (self.writer[index] != warp)
        self._check_writable(index, rewritten & (self.octets[index] != values), warp, text)
        self.octets[index], self.writer[index] = values, warp
        overruled = self.writer[index] != warp
        if (overruled & (self.octets[index] != values)).any():
            raise PTXError(f"shared memory race, two warps write the same byte: {text}")
        self.written[index] = self.interval
        self.writer[index[overruled | rewritten]] = SEVERAL

    def _check_writable(self, index: Array, rewritten: Array, warp: Any, text: str) -> None:
        if (rewritten | ((self.was_read[index] == self.interval) & (self.reader[index] != warp))).any():
            raise PTXError(f"shared memory race, touched by another warp since the barrier: {text}")
        if self.filling[index].any():
            raise PTXError(f"write to shared memory that an asynchronous copy still fills: {text}")
        if self.being_read[index].any():
            raise PTXError(f"write to shared memory that a product in flight still reads: {text}")

    def begin_fill(self, index: Array, warp: Array, text: str) -> None:
        """An asynchronous copy was issued: it may write from now on, and nobody may touch the bytes."""
        rewritten = (self.written[index] == self.interval) & (self.writer[index] != warp)
        self._check_writable(index, rewritten, warp, text)
        self.filling[index] = 1

    def end_fill(self, index: Array, values: Array, warp: Array, text: str) -> None:
        """The issuing thread waited: the bytes are there for its warp, and after a barrier for the others."""
        self.filling[index] = 0
        self.mark_written(index, values, warp, text)
