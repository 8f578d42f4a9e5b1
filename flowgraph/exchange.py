"""Dask collections in and out: arrays, columns of data frames and delayed values as tensors, and tensors as arrays.

Their graphs are joined with ours, under their own keys, so that nothing is computed twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from flowgraph import collection
from flowgraph.context import Hooks
from flowgraph.errors import DataError, DTypeError, ShapeError, UsageError
from flowgraph.graph import Node, make_input, toposort
from flowgraph.lower import NamedGraph, chunk_graph, lower_chunks, new_token
from flowgraph.ops.create import asarray, cast
from flowgraph.sources import DaskRows
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Shape, as_dtype, tensor_type


def from_dask(x: Any, dtype: Any = None) -> Tensor:
    """A tensor of a dask array, or of columns of a dask data frame: `df["a"]`, `df[["a", "b"]]`; nothing is loaded.

    Sizes of chunks that are not known (as those of a data frame) are computed now, once, which reads what they depend
    on; to choose who computes them, give an array that knows: `df.to_dask_array(lengths=...)`,
    `x.compute_chunk_sizes()`. What is differentiated is what is done with the tensor; how the collection was made is
    data. `dtype`: of the tensor; None for that of the array, or one that holds all columns.

    Raises DTypeError for elements that are no numbers and UsageError for other collections.

    >>> import dask.array as da, flowgraph as fg
    >>> x = fg.from_dask(da.ones((6, 2), chunks=(4, 2)))
    >>> fg.grad(lambda x: fg.sum(x * x))(x).to_dask_array().chunks
    ((4, 2), (2,))
    """
    if _is_frame(x):
        x = _frame_array(x)
    elif isinstance(x, _array_class()) and _is_unknown(x):
        x = x.copy() if hasattr(x, "copy") else x  # the sizes are noted in place
        x = x.compute_chunk_sizes()
    result = asarray(x)
    return result if dtype is None else cast(result, dtype)


def _array_class() -> Any:
    arrays = sys.modules.get("dask.array")
    return arrays.Array if arrays is not None else ()


def _is_unknown(x: Any) -> bool:
    return any(np.isnan(length) for lengths in x.chunks for length in lengths)


def _is_frame(x: Any) -> bool:
    frames = sys.modules.get("dask.dataframe")
    return frames is not None and isinstance(x, frames.DataFrame | frames.Series | frames.Index)


def _frame_array(x: Any) -> Any:
    """The dask array of a data frame or a column, with the dtype that holds all columns."""
    columns = list(x.dtypes.items()) if x.ndim == 2 else [(x.name, x.dtype)]
    found = []
    for name, of in columns:
        plain = getattr(of, "numpy_dtype", of)  # pandas' own dtypes of numbers that may be missing
        if not isinstance(plain, np.dtype) or plain.kind not in "biufc":
            raise DTypeError(
                f"a tensor of the column {name!r} of a dask data frame",
                f"its cells are {of}, not numbers",
                "Choose numeric columns (`df[[...]]`), or convert it first.",
            )
        found.append(plain)
    if not found:
        raise ShapeError("a tensor of a dask data frame", "it has no columns", "Choose some.")
    common = np.result_type(*found)
    if any(of is not common for _, of in columns):
        x = x.map_partitions(_without_missing, common, meta=x._meta.astype(common))
    return x.to_dask_array(lengths=True)


def _without_missing(frame: Any, common: np.dtype[Any]) -> Any:
    """A part of a data frame, as numbers of numpy."""
    if common.kind not in "fc" and frame.isna().to_numpy().any():
        raise DataError(
            "a tensor of columns of a dask data frame",
            f"cells are missing, and {common} has no number for them",
            "Fill them in (`df.fillna(0)`), drop their rows, or cast to a float, of which they become nan.",
        )
    return frame.astype(common)


def from_delayed(values: Any, shape: Any, dtype: Any = np.float32) -> Tensor:
    """A tensor of a delayed value (or a future) that will be an array of `shape`, or of several, one after the other.

    For several, `shape` is that of each, or a list of one shape for each; they may differ in the number of rows. Each
    is computed where its rows are needed, and checked against its shape. Raises ShapeError for what is no shape.

    >>> import dask, numpy as np, flowgraph as fg
    >>> load = dask.delayed(lambda number: np.full((2, 3), number, np.float32))
    >>> fg.sum(fg.from_delayed([load(1), load(2)], (2, 3)), axis=1).tolist()
    [3.0, 3.0, 6.0, 6.0]
    """
    given = list(values) if isinstance(values, list | tuple) else [values]
    asked = f"a tensor of {len(given)} delayed values"
    if not given:
        raise UsageError(asked, "there are none", "Give at least one.")
    shapes = [tuple(shape)] * len(given) if _is_shape(shape) else shape
    if not isinstance(shapes, tuple | list) or not all(map(_is_shape, shapes)):
        raise ShapeError(asked, f"shape={shape!r:.100} is none", "Give a tuple of lengths, or a list of such tuples.")
    shapes = [tuple(one) for one in shapes]
    if len(shapes) != len(given):
        raise ShapeError(asked, f"there are {len(shapes)} shapes", "Give one for all, or one for each.")
    if any(not one or one[1:] != shapes[0][1:] for one in shapes) and len(given) > 1:
        raise ShapeError(asked, f"their shapes are {shapes}", "Only the number of rows may differ.")
    tasks: dict[Any, Any] = {}
    for value in given:
        if not hasattr(value, "key") or not (hasattr(value, "__dask_graph__") or hasattr(value, "status")):
            raise UsageError(
                asked, f"one is a {type(value).__name__}", "Use `dask.delayed(function)(...)`, or `fg.asarray`."
            )
        tasks.update(value.__dask_graph__() if hasattr(value, "__dask_graph__") else {value.key: value})
    lengths = [int(one[0]) for one in shapes] if shapes[0] else []
    of = tensor_type((sum(lengths), *shapes[0][1:]) if shapes[0] else (), as_dtype(dtype))
    return tensor_of(make_input(of, value=DaskRows([one.key for one in given], lengths, of, tasks)))


def _is_shape(given: Any) -> bool:
    return isinstance(given, tuple | list) and all(
        isinstance(one, int | np.integer) and not isinstance(one, bool) and one >= 0 for one in given
    )


def to_dask_arrays(*tensors: Tensor) -> tuple[Any, ...]:
    """Dask arrays of the values of `tensors`, by one graph: what they share is computed once, when one is computed.

    Rows that come from a dask array have its chunks; others have chunks as they are computed, a few for each worker.
    Along all other axes an array is whole. Nothing is computed now.

    >>> import dask.array as da, flowgraph as fg
    >>> loss, slope = fg.value_and_grad(lambda x: fg.sum(x * x))(da.ones((6, 2), chunks=(4, 2)))
    >>> [float(one.compute().sum()) for one in fg.to_dask_arrays(loss, slope)]
    [12.0, 24.0]
    """
    for one in tensors:
        if one.node.symbolic and one.node.memo is None:
            raise UsageError(
                "a dask array of a tensor in a function that is being traced",
                "it has no value",
                "Return it, and convert the result.",
            )
    token = new_token()
    results: dict[int, Any] = {}
    waiting = [one.node for one in tensors if one.node.memo is None]
    graph, chunks = collection.chunks_of(waiting) if waiting else ({}, [])
    for node, (keys, axis, lengths) in zip(waiting, chunks, strict=True):
        name = f"flowgraph-array-{token}-{len(results)}"
        own = chunk_graph(keys, name, node.type.ndim, axis)
        array = _array({**graph, **own}, name, _chunks(node.type.shape, axis, lengths), node.type.dtype)
        results[id(node)] = _as_input(array, node)
    for one in tensors:
        if id(one.node) not in results:
            results[id(one.node)] = _known(one.node, f"flowgraph-array-{token}-{len(results)}")
    return tuple(results[id(one.node)] for one in tensors)


def to_dask_array(tensor: Tensor) -> Any:
    """The dask array of one tensor: see `to_dask_arrays`."""
    return to_dask_arrays(tensor)[0]


def _chunks(shape: Shape, axis: int | None, lengths: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(lengths) if number == axis else (length,) for number, length in enumerate(shape))


def _known(node: Node, name: str) -> Any:
    """The dask array of a value that is there, or in files or tasks."""
    value = node.memo
    if isinstance(value, np.ndarray):
        import dask.array as da

        return da.from_array(value, chunks=-1)
    shape, dtype = node.type.shape, node.type.dtype
    lengths = value.chunks or ((shape[0],) if shape else ())
    edges = [0, *accumulate(lengths)]
    graph = lower_chunks(value, edges, name, node.type.ndim)
    return _array(graph, name, _chunks(shape, 0 if shape else None, lengths), dtype)


def _as_input(array: Any, node: Node) -> Any:
    """`array` in the chunks of the dask array that its rows come from, where there is one."""
    if not array.shape:
        return array
    for one in toposort([node]):
        value = one.memo
        if isinstance(value, DaskRows) and value.type.shape[:1] == node.type.shape[:1]:
            return array if array.chunks[0] == value.lengths else array.rechunk({0: value.lengths})
    return array


def _array(graph: Mapping[Any, Any], name: str, chunks: Any, dtype: Any) -> Any:
    import dask.array as da

    meta = np.empty((0,) * len(chunks), dtype)
    if not hasattr(da.Array, "_name") or "_array_expr" in da.Array.__module__:  # with array.query-planning
        from dask.array._array_expr._collection import from_graph

        keys = [(name, *place) for place in np.ndindex(*map(len, chunks))]
        return from_graph(NamedGraph(graph, name), meta, chunks, keys, name)
    return da.Array(graph, name, chunks, dtype=dtype, meta=meta)


def source(value: Any) -> DaskRows:
    """A dask array as a source: its row chunks, each whole along all other axes.

    Raises ShapeError where chunk sizes are not known, DTypeError for elements that are no numbers, and UsageError for
    collections that are no arrays.
    """
    arrays = sys.modules.get("dask.array")  # a Delayed has every attribute, so the class must tell
    if arrays is None or not isinstance(value, arrays.Array):
        raise UsageError(
            f"a tensor of a {type(value).__module__.partition('.')[0]} {type(value).__name__}",
            "of Dask's collections, only arrays have a shape and one dtype",
            "Use `fg.from_dask(frame)` (as `frame.to_dask_array(lengths=True)`), or `fg.from_delayed(value, shape)`.",
        )
    if any(np.isnan(length) for lengths in value.chunks for length in lengths):
        raise ShapeError(
            f"a tensor of a dask array of shape {value.shape}",
            "the sizes of its chunks are not known",
            "Use `fg.from_dask(x)`, which computes them once, or call `x.compute_chunk_sizes()` first.",
        )
    if value.dtype.kind not in "biufc":
        raise DTypeError(
            "a tensor of a dask array", f"its elements are {value.dtype}, not numbers", "Use `x.astype(float)`."
        )
    if any(len(lengths) > 1 for lengths in value.chunks[1:]):
        value = value.rechunk(dict.fromkeys(range(1, value.ndim), -1))
    of = tensor_type(value.shape, as_dtype(value.dtype.newbyteorder("=")))
    lengths = [int(one) for one in value.chunks[0]] if value.ndim else []
    return DaskRows(list(_flat(value.__dask_keys__())), lengths, of, dict(value.__dask_graph__()))


def _flat(found: Any) -> Iterator[Any]:
    for one in found:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


Hooks.source = staticmethod(source)
Hooks.to_dask_array = staticmethod(to_dask_array)
