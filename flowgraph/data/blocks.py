"""Rows collected into blocks on a fixed grid, in memory or in one .npy file."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from flowgraph.data.moments import RunningMoments
from flowgraph.data.source import quoted
from flowgraph.errors import OutputExistsError


class BlockStore:
    """Collects rows of any batch size into C-order blocks of `block_rows` rows, and their moments.

    `row_shape`: `(columns,)` or `()`; `dtype`: of the blocks. All blocks share one file when spilled: a file per block
    would run into the limit on open files, because a memory map holds its file open.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: np.dtype[Any], block_rows: int) -> None:
        self._row_shape, self._dtype, self._block_rows = row_shape, dtype, block_rows
        self._blocks: list[NDArray[Any]] = []
        self._buffer: NDArray[Any] | None = None
        self._filled = 0
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self.rows = 0
        """Rows taken in so far."""
        self.moments = RunningMoments()
        """The moments of the complete blocks, and after `finish` of all."""

    @property
    def nbytes(self) -> int:
        """Bytes of all rows so far, in memory or in the file."""
        return self.rows * int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def append(self, rows: NDArray[Any]) -> None:
        """Returns nothing; takes in a copy of `rows`, of shape `(any, *row_shape)`."""
        start = 0
        while start < len(rows):
            if self._buffer is None:
                self._buffer = np.empty((self._block_rows, *self._row_shape), self._dtype)
            size = min(len(rows) - start, self._block_rows - self._filled)
            self._buffer[self._filled : self._filled + size] = rows[start : start + size]
            start += size
            self._filled += size
            self.rows += size
            if self._filled == self._block_rows:
                self._emit(self._buffer)

    def spill(self, path: Path) -> None:
        """Returns nothing; moves the blocks to the new file `path`, where later blocks go too.

        Raises OutputExistsError if there is such a file. A second call does nothing.
        """
        if self._file is not None:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = path.open("xb")
        except FileExistsError as error:
            remedy = "Remove it, or name another directory for the blocks."
            raise OutputExistsError(f"write blocks of rows to {quoted(path)}", "the path exists", remedy) from error
        self._path = path
        self._write_header(0)
        for block in self._blocks:
            self._write(block)
        self._blocks.clear()

    def finish(self) -> tuple[NDArray[Any], ...]:
        """Returns the blocks, read-only; the last one may be shorter. Spilled blocks are slices of one memory map."""
        if self._buffer is not None and self._filled:
            # The copy lets go of the part of the buffer that no row fills.
            self._emit(self._buffer[: self._filled].copy())
        self._buffer = None
        if self._file is None or self._path is None:
            for block in self._blocks:
                block.flags.writeable = False
            return tuple(self._blocks)
        self._write_header(self.rows)
        self._file.close()
        table: NDArray[Any] = np.load(self._path, mmap_mode="r")
        return tuple(table[start : start + self._block_rows] for start in range(0, self.rows, self._block_rows))

    def discard(self) -> None:
        """Returns nothing; removes the file, if there is one."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _emit(self, block: NDArray[Any]) -> None:
        self.moments.add(block)
        self._filled = 0
        if self._file is not None:
            self._write(block)
        else:
            self._blocks.append(block)
            self._buffer = None

    def _write(self, block: NDArray[Any]) -> None:
        assert self._file is not None
        self._file.write(block.data.cast("B"))

    def _write_header(self, rows: int) -> None:
        # The format pads its header so that the first axis can grow; the header is written again when it is known.
        assert self._file is not None
        before = self._file.tell()
        self._file.seek(0)
        shape = (rows, *self._row_shape)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        assert before == 0 or self._file.tell() + self.nbytes == before, "the header grew over the data"
