"""Sources: the pieces of an interval, and how arrays leave the process."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph import errors, sources
from flowgraph.lower.calls import assemble_pieces
from flowgraph.sources import Blocks, DaskRows, FilePiece, Held, Parts, files, resolve
from flowgraph.types import tensor_type

LARGE = np.arange(120_000, dtype=np.float64).reshape(-1, 3)
SMALL = LARGE[:5]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go during a test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(files.DIRECTORY, "path", None)
    yield tmp_path
    files.DIRECTORY.pinned.clear()


# Pieces.


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_pieces_are_the_interval(lengths: list[int], data: st.DataObject) -> None:
    total = sum(lengths)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    whole = np.arange(total * 2, dtype=np.float32).reshape(total, 2)
    edges = np.cumsum([0, *lengths])
    blocks = [whole[a:b] for a, b in itertools.pairwise(edges)]
    of = tensor_type((total, 2), np.float32)
    tasks = DaskRows([f"task-{number}" for number in range(len(blocks))], lengths, of, {})
    results = dict(zip(tasks.keys, blocks, strict=True))
    for source in (Blocks(blocks), Parts(blocks, of), Held(whole)):
        pieces = source.pieces(start, stop, 0)
        assert pieces
        np.testing.assert_array_equal(np.concatenate([resolve(one) for one in pieces]), whole[start:stop])
        np.testing.assert_array_equal(assemble_pieces(source.whole(), np.dtype("f4")), whole)
        columns = [resolve(one) for one in source.pieces(1, 2, 1)]
        np.testing.assert_array_equal(np.concatenate(columns), whole[:, 1:2])
    found = tasks.pieces(start, stop, 0)
    assert found
    parts = [resolve([results[one.key], one.start, one.stop, 0, one.shape]) for one in found]
    np.testing.assert_array_equal(np.concatenate(parts), whole[start:stop])
    assert sum(one.stop - one.start for one in found) == stop - start


def test_blocks_must_be_alike() -> None:
    with pytest.raises(errors.DataError, match="there are none"):
        fg.from_blocks([])
    for other in (np.zeros((2, 4)), np.zeros((2, 3), np.float32), np.zeros(3), np.float64(1)):
        with pytest.raises(errors.ShapeError, match=r"block 0 is float64 of shape \(1, 3\), block 1 is"):
            fg.from_blocks([np.zeros((1, 3)), other])
    assert fg.from_blocks([np.zeros((1, 3)), np.ones((1, 3), ">f8")]).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_block_of_another_shape_than_promised() -> None:
    with pytest.raises(errors.DataError, match=r"a block of shape \(4, 3\)[\s\S]*gave \(5, 3\)"):
        resolve([SMALL, 0, 2, 0, (4, 3)])


# Leaving the process.


def sent(value: Any, known: bool = True, shared_disk: bool = True) -> Any:
    """`value` on the other side."""
    if not known:
        return pickle.loads(pickle.dumps(value))
    with sources.sending(shared_disk):
        return pickle.loads(pickle.dumps(value))


def test_small_arrays_travel_inside(here: Path) -> None:
    for array in (SMALL, np.asfortranarray(SMALL), SMALL[:0]):
        piece = sent(Held(array).whole()[0])
        assert type(piece) is np.ndarray
        np.testing.assert_array_equal(piece, array)
    assert list(here.iterdir()) == []


def variants() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "C order": LARGE,
        "F order": np.asfortranarray(LARGE),
        "strided": np.repeat(LARGE, 2, axis=0)[::2],
        "columns": np.repeat(LARGE, 2, axis=1)[:, ::2],
        "byte-swapped": LARGE.astype(">f8"),
        "one axis": LARGE.ravel(),
        "whole numbers": LARGE.astype(np.int32),
        "truths": np.resize(LARGE > 3, (90_000, 3)),
    }


@pytest.mark.parametrize("array", variants().values(), ids=variants())
def test_large_arrays_travel_as_files(here: Path, array: np.ndarray[Any, Any]) -> None:
    held = Held(array)
    piece = sent(held.pieces(10, 20, 0)[0])
    assert type(piece) is FilePiece
    found = resolve(piece)
    np.testing.assert_array_equal(found, array[10:20])
    assert found.flags.c_contiguous
    assert found.dtype == array.dtype.newbyteorder("=")
    again = sent(held)
    assert type(again) is Parts
    assert again.type is held.type or array.dtype.byteorder == ">"
    np.testing.assert_array_equal(np.asarray(again), array)
    if array.ndim == 2:
        np.testing.assert_array_equal(resolve(sent(held.pieces(1, 3, 1)[0])), array[:, 1:3])
    (folder,) = here.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1


def test_files_go_with_their_arrays(here: Path) -> None:
    first, second = Held(LARGE), Held(LARGE + 1)
    paths = [Path(sent(one.whole()[0]).path) for one in (first, second)]
    del first
    assert [path.exists() for path in paths] == [False, True]
    second.release()
    assert list(here.iterdir()) == []
    assert Path(sent(second.whole()[0]).path).exists()


def test_files_stay_where_nobody_waits_for_the_receiver(here: Path) -> None:
    piece = sent(Held(LARGE).whole()[0], known=False)
    np.testing.assert_array_equal(resolve(piece), LARGE)
    files.DIRECTORY.clear()  # as when the process ends
    assert list(here.iterdir()) == []


def test_a_forked_child_leaves_the_files_alone(here: Path) -> None:
    held = Held(LARGE)
    path = Path(sent(held.whole()[0]).path)
    files.DIRECTORY.remove(path, os.getpid() + 1)
    assert path.exists()


def test_an_array_that_was_changed_is_written_again(here: Path) -> None:
    array = LARGE.copy()
    held = Held(array)
    before = sent(held.whole()[0])
    array[0] = 7
    after = sent(held.whole()[0])
    assert before.path != after.path
    np.testing.assert_array_equal(resolve(after), array)
    assert not Path(before.path).exists()


def test_a_mapped_file_is_used_where_it_lies(here: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, LARGE)
    mapped = np.load(path, mmap_mode="r")
    piece = sent(Held(mapped[100:30_000]).pieces(5, 9, 0)[0])
    assert (piece.path, piece.start, piece.stop) == (str(path), 105, 109)
    np.testing.assert_array_equal(resolve(piece), LARGE[105:109])
    columns = sent(Held(mapped[100:30_000]).pieces(1, 2, 1)[0])
    np.testing.assert_array_equal(resolve(columns), LARGE[100:30_000, 1:2])
    held = Held(mapped)
    assert sent(held.whole()[0]).path == str(path)
    held.release()
    assert path.exists()
    # What the file does not hold as it is, is written like any other array.
    for other in (mapped[::2], mapped[:, :2], np.load(path, mmap_mode="c"), np.asarray(mapped) + 0):
        again = sent((kept := Held(other)).whole()[0])
        assert again.path != str(path)
        np.testing.assert_array_equal(resolve(again), other)
        del kept
    path.unlink()
    kept = Held(mapped)
    assert sent(kept.whole()[0]).path != str(path)


def test_a_raw_file_is_no_npy_file(here: Path, tmp_path: Path) -> None:
    LARGE.tofile(tmp_path / "raw")
    held = Held(np.memmap(tmp_path / "raw", LARGE.dtype, "r", shape=LARGE.shape))
    piece = sent(held.whole()[0])
    np.testing.assert_array_equal(resolve(piece), LARGE)
    assert "flowgraph-" in piece.path


def test_no_shared_disk_means_no_files(here: Path) -> None:
    piece = sent(Held(LARGE).pieces(3, 5, 0)[0], shared_disk=False)
    np.testing.assert_array_equal(piece, LARGE[3:5])
    for source in (Held(LARGE), Blocks([LARGE, SMALL])):
        parts = sent(source, shared_disk=False).parts
        assert all(type(one) is np.ndarray for one in parts)
    assert list(here.iterdir()) == []


def test_a_map_does_not_outlive_its_readers(here: Path) -> None:
    held = Held(LARGE)
    piece = sent(held.whole()[0])
    rows = resolve(piece)[3:5]
    assert piece.path in files._MAPS
    part = np.asarray(rows)
    del rows
    assert piece.path in files._MAPS
    np.testing.assert_array_equal(part, LARGE[3:5])
    del part
    assert piece.path not in files._MAPS


def test_a_file_that_is_not_there(here: Path) -> None:
    with pytest.raises(errors.ClusterError, match="does not see the file"):
        resolve(FilePiece(str(here / "gone.npy"), 0, 1))


def test_a_full_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(errors.ClusterError, match=r"array of 1 MB.*\n.*No space left[\s\S]*TMPDIR"):
        sent(Held(LARGE).whole()[0])


def test_portable_writes_once_and_cleans_up(here: Path) -> None:
    with sources.portable([LARGE, SMALL, np.float32(3).reshape(())]) as (large, small, scalar):
        assert type(large) is Held
        assert small is SMALL
        assert scalar.shape == ()
        assert sent(large.whole()[0]).path == sent(large.whole()[0]).path
        assert len(list(here.glob("*/*"))) == 1
    assert list(here.iterdir()) == []


def test_the_array_of_an_owner_is_held_once() -> None:
    class Owner:
        pass

    owner = Owner()
    assert sources.held_by(owner, SMALL) is SMALL
    held = sources.held_by(owner, LARGE)
    assert sources.held_by(owner, LARGE) is held
    assert sources.held_by(owner, LARGE.copy()) is not held
    assert sources.in_memory(held) is LARGE
    assert sources.in_memory(SMALL) is SMALL
