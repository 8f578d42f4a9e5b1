"""Durable state: what was saved comes back, what was damaged is refused, and a crash leaves the old or the new."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flowgraph import store
from flowgraph.errors import DataError, FlowgraphError, InputNotFoundError, OutputExistsError, UsageError
from flowgraph.store import MANIFEST, STATE, load_state, new_directory, save_state, write_state

pytest.importorskip("safetensors")

ARRAYS = {"w": np.arange(6.0).reshape(2, 3), "step": np.array(7), "mask": np.array([True, False])}
CONTENT = {"names": ["a", "é\x1b[31m"], "rate": 0.1, "none": None, "deep": {"er": [1, [2]]}}


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "state"
    save_state(path, {**ARRAYS, **changes}, CONTENT)
    return path


def edited(path: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> None:
    """Changes the manifest; `sign` gives it the right checksum, as somebody would who means harm."""
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    if sign:
        manifest.pop("checksum")
        manifest["checksum"] = store._checksum(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_round_trip(tmp_path: Path) -> None:
    path = saved(tmp_path)
    found, content = load_state(path)
    assert content == CONTENT
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert sorted(entry.name for entry in path.iterdir()) == sorted([MANIFEST, STATE])
    assert all(stat.S_IMODE(entry.stat().st_mode) == 0o600 for entry in path.iterdir())
    assert list(tmp_path.iterdir()) == [path]


DTYPES = st.sampled_from(["bool", "int8", "int64", "uint16", "float16", "float32", "float64", ">f8", ">i4"])


ANY_ARRAYS = DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0)))
NAMES = st.text(min_size=1, max_size=9).filter(lambda name: "\0" not in name and name.isprintable())


@settings(max_examples=20)
@given(st.dictionaries(NAMES, ANY_ARRAYS, max_size=4))
def test_any_arrays_round_trip(tmp_path_factory: pytest.TempPathFactory, given_arrays: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("states") / "state"
    save_state(path, given_arrays, {})
    found, _ = load_state(path)
    assert set(found) == set(given_arrays)
    for name, array in given_arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def test_memory_order_does_not_matter(tmp_path: Path) -> None:
    table = np.arange(12.0).reshape(3, 4)
    save_state(tmp_path / "s", {"f": np.asfortranarray(table), "back": table[::-1], "column": table[:, 1]}, {})
    found, _ = load_state(tmp_path / "s")
    assert np.array_equal(found["f"], table)
    assert np.array_equal(found["back"], table[::-1])
    assert np.array_equal(found["column"], table[:, 1])


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_state(tmp_path / name, ARRAYS, CONTENT)
    for file in (MANIFEST, STATE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# What can not be written


@pytest.mark.parametrize(
    ("arrays", "content", "found"),
    [
        ({"o": np.array([None])}, {}, "only numbers"),
        ({"t": np.array(["a"])}, {}, "only numbers"),
        ({"": np.ones(1)}, {}, "can not be the name"),
        ({"a\0": np.ones(1)}, {}, "can not be the name"),
        ({"__metadata__": np.ones(1)}, {}, "can not be the name"),
        ({"x" * 1001: np.ones(1)}, {}, "can not be the name"),
        ({}, {"x": float("nan")}, "JSON"),
        ({}, {"x": {1, 2}}, "JSON"),
        ({}, {"x": [[[[[[[[1]]]]]]]]}, "levels"),
        ({}, {"x": "a" * (1 << 24)}, "bytes"),
    ],
    ids=range(10),
)
def test_what_can_not_be_written(tmp_path: Path, arrays: Any, content: Any, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        save_state(tmp_path / "state", arrays, content)
    assert found in caught.value.found
    assert list(tmp_path.iterdir()) == []


def test_without_safetensors_the_remedy_is_an_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for attempt in (lambda: save_state(tmp_path / "other", {}, {}), lambda: load_state(path), store.check_installed):
        with pytest.raises(UsageError, match=r"pip install 'flowgraph\[files\]'"):
            attempt()
    assert list(tmp_path.iterdir()) == [path]


# What is refused when it is read


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for file in (path / MANIFEST, path / STATE):
        whole = file.read_bytes()
        for position in range(len(whole)):
            for bit in (position % 8, (position + 5) % 8):
                broken = bytearray(whole)
                broken[position] ^= 1 << bit
                file.write_bytes(broken)
                try:
                    found, content = load_state(path)
                except FlowgraphError:
                    continue
                # JSON may spell the same in two ways: \u00e9 and \u00E9.
                assert content == CONTENT
                assert list(found) == list(ARRAYS)
        file.write_bytes(whole)
    load_state(path)


@pytest.mark.parametrize("file", [MANIFEST, STATE])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.999, 1.5])
def test_another_length_is_noticed(tmp_path: Path, file: str, part: float) -> None:
    path = saved(tmp_path)
    whole = (path / file).read_bytes()
    (path / file).write_bytes((whole * 2)[: int(len(whole) * part)])
    with pytest.raises(DataError) as caught:
        load_state(path)
    assert file in caught.value.found
    assert caught.value.exit_code == 65


def test_a_missing_directory_or_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (path / STATE).unlink()
    with pytest.raises(DataError, match="no file 'state"):
        load_state(path)
    for missing in (tmp_path, tmp_path / "nothing", path / MANIFEST):
        with pytest.raises(InputNotFoundError) as caught:
            load_state(missing)
        assert "flowgraph fit --out" in caught.value.remedy


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for file in (MANIFEST, STATE):
        (path / file).rename(tmp_path / file)
        (path / file).symlink_to(tmp_path / file)
        with pytest.raises(DataError, match="can not be opened"):
            load_state(path)
        (path / file).unlink()
        os.mkfifo(path / file)
        with pytest.raises(DataError, match="no regular file"):
            load_state(path)
        (path / file).unlink()
        (tmp_path / file).rename(path / file)
    load_state(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "can not be read"),
        ("[]", "not one of flowgraph's"),
        ("{}", "not one of flowgraph's"),
        ('{"format": "flowgraph-state", "format": "flowgraph-state"}', "occurs twice"),
        ('{"a": NaN}', "no number"),
        ('{"a": 1e999}', "beyond float64"),
        ("[" * 100_000 + "]" * 100_000, "can not be read"),
        ("[" * 9 + "]" * 9, "more than 8 levels"),
        ('{"a": "' + "x" * (1 << 24) + '"}', "larger than"),
        ("\udcff", "can not be read"),
    ],
    ids=lambda text: text[:20],
)
def test_manifests_that_are_none(tmp_path: Path, text: str, found: str) -> None:
    path = saved(tmp_path)
    (path / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        load_state(path)
    assert found in caught.value.found


def shape_of(shape: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["arrays"]["w"].update(shape=shape)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(content=[]), "a part is missing"),
        (lambda m: m.pop("arrays"), "a part is missing"),
        (lambda m: m["file"].update(name="../../etc/passwd"), "file is not described"),
        (lambda m: m["file"].update(bytes=-1), "file is not described"),
        (lambda m: m["file"].update(bytes=1), "has at least 2 bytes"),
        (lambda m: m["arrays"]["w"].update(dtype="object"), "'w' is not described"),
        (lambda m: m["arrays"]["w"].update(dtype="float32"), "of the array 'w'"),
        (lambda m: m["arrays"].update(extra={"shape": [], "dtype": "int8"}), "of the array 'extra'"),
        (lambda m: m["arrays"].pop("w"), "of the array 'w'"),
        (shape_of([3, 2]), "of the array 'w'"),
        (shape_of([2**62, 2**62]), "its arrays have"),
        (shape_of([-1]), "has the shape [-1]"),
        (shape_of([True]), "has the shape"),
        (shape_of("66"), "has the shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forged_manifests(tmp_path: Path, change: Callable[[dict[str, Any]], object], found: str) -> None:
    path = saved(tmp_path)
    edited(path, change)
    with pytest.raises(DataError) as caught:
        load_state(path)
    if found == "has at least 2 bytes":  # the arrays alone are larger
        found = "its arrays have"
    assert found in caught.value.found


def test_an_edited_manifest_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    edited(path, lambda manifest: manifest["content"].update(rate=0.2), sign=False)
    with pytest.raises(DataError, match="checksum is wrong"):
        load_state(path)


# New directories


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = (path / MANIFEST).read_bytes()
    with pytest.raises(OutputExistsError, match="exists already"):
        save_state(path, {}, {})
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(path)
    for taken in ("file", "link"):
        with pytest.raises(OutputExistsError, match="no directory"):
            save_state(tmp_path / taken, {}, {}, replace=True)
    assert (path / MANIFEST).read_bytes() == before
    assert (tmp_path / "file").read_text() == "precious"


def test_only_a_state_is_replaced(tmp_path: Path) -> None:
    path = saved(tmp_path)
    save_state(path, {"w": np.zeros(1)}, {}, replace=True)
    assert load_state(path)[0]["w"].tolist() == [0.0]
    assert list(tmp_path.iterdir()) == [path]
    (path / "notes.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        save_state(path, {}, {}, replace=True)
    (path / "notes.txt").unlink()
    (path / MANIFEST).write_text('{"name": "of another program"}')
    with pytest.raises(OutputExistsError, match="did not write"):
        save_state(path, {}, {}, replace=True)
    (tmp_path / "empty").mkdir()
    save_state(tmp_path / "empty", {}, {}, replace=True)
    assert load_state(tmp_path / "empty") == ({}, {})


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "deep" / "er" / "new") as made:
        write_state(made, ARRAYS, CONTENT)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    path = saved(tmp_path)
    with pytest.raises(ZeroDivisionError), new_directory(path, replace=True):
        _ = 1 / 0
    load_state(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(OutputExistsError), new_directory(path) as made:
        write_state(made, ARRAYS, CONTENT)
        path.mkdir()
    assert list(path.iterdir()) == []
    assert list(tmp_path.iterdir()) == [path]


def test_where_names_can_not_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setattr(store, "_exchange", lambda one, other: False)
    save_state(path, {}, {"new": True}, replace=True)
    assert load_state(path) == ({}, {"new": True})
    assert list(tmp_path.iterdir()) == [path]


CRASHES = """
import os, pathlib, sys
import numpy as np
from flowgraph import store

folder, replace = pathlib.Path(sys.argv[1]), sys.argv[2] == "replace"
target, outcomes = folder / "state", []
for point in range(100):
    if replace:
        store.save_state(target, {"w": np.zeros(3)}, {"state": "old"})
    child = os.fork()
    if child == 0:
        left = point

        def counted(function):
            def call(*args, **kwargs):
                global left
                if left == 0:
                    os._exit(9)
                left -= 1
                return function(*args, **kwargs)
            return call

        for owner, name in ((os, "open"), (os, "fsync"), (os, "fdopen"), (pathlib.Path, "mkdir"),
                            (pathlib.Path, "rename"), (store, "_exchange"), (store.shutil, "rmtree")):
            setattr(owner, name, counted(getattr(owner, name)))
        store.save_state(target, {"w": np.ones(3)}, {"state": "new"}, replace)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcomes.append(store.load_state(target)[1]["state"] if target.exists() else "none")
    for entry in folder.iterdir():
        for file in entry.iterdir():
            file.unlink()
        entry.rmdir()
    if code == 0:
        break
print(*outcomes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process at every step")
@pytest.mark.parametrize("kind", ["new", "replace"])
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", CRASHES, str(tmp_path), kind]
    outcomes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    before = "old" if kind == "replace" else "none"
    assert len(outcomes) >= 8
    assert outcomes[0] == before
    assert outcomes[-1] == "new"
    assert outcomes == sorted(outcomes, key=[before, "new"].index)
