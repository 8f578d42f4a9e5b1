"""Layers of neural networks, as functions: convolutions and pools. The others are in normalisation.py.

Tensors are (batch, ..., channels), as TensorFlow has them by default.
"""

from __future__ import annotations

from typing import Any

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op
from flowgraph.ops.linalg import matmul
from flowgraph.ops.shape import reshape
from flowgraph.ops.windows import avg_pool_op, each, max_pool_op, pads_of, patches, spatial, unpatches
from flowgraph.tensor import Tensor
from flowgraph.types import product

__all__: list[str] = []


# Convolutions


def _filters(filters: Any, rank: int, channels: Any, axis: int, what: str) -> Tensor:
    """`filters`, after a check that they have `rank` axes for windows and that `axis` fits the channels."""
    filters = convert(filters)
    if filters.ndim != rank + 2 or filters.shape[axis] != channels:
        raise ShapeError(
            f"{what} of {channels} channels with filters {filters.type}",
            f"filters are (window over {rank} axes, "
            f"{'channels, results' if axis == -2 else 'results, channels'}), and theirs do not fit",
            "Check the last axis of the input and the number of axes.",
        )
    return filters  # type: ignore[no-any-return]


def _convolution(x: Any, filters: Any, strides: Any, padding: Any, dilations: Any, rank: int) -> Tensor:
    x, what = convert(x), f"conv{rank}d"
    lengths = spatial(x.type, what)
    if len(lengths) != rank:
        raise ShapeError(f"{what} of {x.type}", f"it has {x.ndim} axes", f"Give {rank + 2}: batch, ..., channels.")
    filters = _filters(filters, rank, x.shape[-1], -2, what)
    window = tuple(filters.shape[:rank])
    steps, holes = each(strides, rank, "strides"), each(dilations, rank, "dilations")
    pads = pads_of(padding, lengths, window, steps, holes)
    if set(window) | set(steps) != {1} or any(low or high for low, high in pads):
        x = patches(x, window=window, strides=steps, dilations=holes, pads=pads)
    else:
        x = reshape(x, (*x.shape[:-1], *window, x.shape[-1]))
    outer, inner = x.shape[: 1 + rank], x.shape[1 + rank :]
    flat = reshape(x, (product(outer), product(inner)))
    results = matmul(flat, reshape(filters, (product(inner), filters.shape[-1])))
    return reshape(results, (*outer, filters.shape[-1]))  # type: ignore[no-any-return]


def conv1d(input: Any, filters: Any, stride: Any = 1, padding: Any = "VALID", dilations: Any = 1) -> Tensor:
    """The convolution (without flipping) of (batch, width, channels) with filters (window, channels, results).

    `padding` is "VALID", "SAME", a number of zeros on both sides, or a pair of them.

    >>> import flowgraph as fg
    >>> fg.nn.conv1d([[[1.0], [2.0], [3.0]]], [[[1.0]], [[10.0]]]).tolist()
    [[[21.0], [32.0]]]
    """
    padding = [tuple(padding)] if isinstance(padding, tuple) and len(padding) == 2 else padding
    return _convolution(input, filters, stride, padding, dilations, 1)


def conv2d(input: Any, filters: Any, strides: Any = 1, padding: Any = "VALID", dilations: Any = 1) -> Tensor:
    """The convolution of (batch, height, width, channels) with filters (height, width, channels, results).

    `padding` is "VALID", "SAME", a number of zeros on all sides, or for each axis a number or a pair.

    >>> import flowgraph as fg
    >>> fg.nn.conv2d(fg.ones((1, 3, 3, 1)), fg.ones((2, 2, 1, 1)), padding="SAME").numpy()[0, :, :, 0].tolist()
    [[4.0, 4.0, 2.0], [4.0, 4.0, 2.0], [2.0, 2.0, 1.0]]
    """
    return _convolution(input, filters, strides, padding, dilations, 2)


def _transposed(
    x: Any, filters: Any, output_shape: Any, strides: Any, padding: Any, dilations: Any, rank: int
) -> Tensor:
    x, what = convert(x), f"conv{rank}d_transpose"
    counts = spatial(x.type, what)
    filters = _filters(filters, rank, x.shape[-1], -1, what)
    window = tuple(filters.shape[:rank])
    steps, holes = each(strides, rank, "strides"), each(dilations, rank, "dilations")
    if output_shape is None:
        if not isinstance(padding, str):
            raise UsageError(f"{what} with padding={padding!r}", "the output's size is open", "Give output_shape.")
        spans = zip(counts, steps, window, holes, strict=True)
        same = padding.upper() == "SAME"
        lengths = tuple(n * s if same else (n - 1) * s + (size - 1) * hole + 1 for n, s, size, hole in spans)
    else:
        given = tuple(int(one) for one in output_shape)
        lengths = given[1:-1] if len(given) == rank + 2 else given
    pads = pads_of(padding, lengths, window, steps, holes)
    flat = reshape(x, (product(x.shape[:-1]), x.shape[-1]))
    weights = reshape(filters, (product(filters.shape[:-1]), filters.shape[-1]))
    spread = reshape(matmul(flat, weights.mT), (*x.shape[:-1], *filters.shape[:-1]))
    result: Tensor = unpatches(spread, lengths=lengths, window=window, strides=steps, dilations=holes, pads=pads)
    back = patches.attrs
    assert back is not None, "patches have attributes"
    if back(result.type, window, steps, holes, pads)["shape"][1 : 1 + rank] != counts:
        raise ShapeError(
            f"{what} of {x.type} to the lengths {lengths}",
            "a convolution of these lengths would not give back those of the input",
            "Leave output_shape out, or give lengths that fit strides and padding.",
        )
    return result


def conv1d_transpose(
    input: Any, filters: Any, output_shape: Any = None, strides: Any = 1, padding: Any = "SAME", dilations: Any = 1
) -> Tensor:
    """The adjoint of `conv1d`, with filters (window, results, channels): a "deconvolution" to (batch, width, results).

    >>> import flowgraph as fg
    >>> fg.nn.conv1d_transpose([[[1.0], [2.0]]], [[[1.0]], [[10.0]]], strides=2).numpy().ravel().tolist()
    [1.0, 10.0, 2.0, 20.0]
    """
    return _transposed(input, filters, output_shape, strides, padding, dilations, 1)


def conv2d_transpose(
    input: Any, filters: Any, output_shape: Any = None, strides: Any = 1, padding: Any = "SAME", dilations: Any = 1
) -> Tensor:
    """The adjoint of `conv2d`, with filters (height, width, results, channels).

    >>> import flowgraph as fg
    >>> fg.nn.conv2d_transpose(fg.ones((1, 2, 2, 1)), fg.ones((2, 2, 1, 1)), strides=2).shape
    (1, 4, 4, 1)
    """
    return _transposed(input, filters, output_shape, strides, padding, dilations, 2)


# Pools


def _pool(op: Op, x: Any, ksize: Any, strides: Any, padding: Any, rank: int | None = None) -> Tensor:
    x = convert(x)
    lengths = spatial(x.type, op.name)
    if rank is not None and len(lengths) != rank:
        raise ShapeError(f"{op.name}{rank}d of {x.type}", f"it has {x.ndim} axes", f"Give {rank + 2}.")
    window = each(ksize, len(lengths), "ksize")
    steps = window if strides is None else each(strides, len(lengths), "strides")
    pads = pads_of(padding, lengths, window, steps, (1,) * len(window))
    if any(max(pad) >= size for pad, size in zip(pads, window, strict=True)):
        raise UsageError(
            f"{op.name} with windows {window} and padding {pads}", "a window may lie in the padding alone", "Pad less."
        )
    return op(x, window=window, strides=steps, pads=pads)  # type: ignore[no-any-return]


def max_pool(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """The largest element of windows of `ksize`, `strides` apart (`ksize` if None); equal ones share the gradient.

    >>> import flowgraph as fg
    >>> fg.nn.max_pool([[[1.0], [3.0], [2.0], [0.0]]], 2).tolist()
    [[[3.0], [2.0]]]
    """
    return _pool(max_pool_op, input, ksize, strides, padding)


def avg_pool(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """The mean of windows of `ksize`, `strides` apart (`ksize` if None); the padding does not count.

    >>> import flowgraph as fg
    >>> fg.nn.avg_pool([[[1.0], [3.0], [2.0], [0.0]]], 2).tolist()
    [[[2.0], [1.0]]]
    """
    return _pool(avg_pool_op, input, ksize, strides, padding)


def max_pool1d(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """`max_pool` of (batch, width, channels).

    >>> import flowgraph as fg
    >>> fg.nn.max_pool1d([[[1.0], [3.0]]], 2).tolist()
    [[[3.0]]]
    """
    return _pool(max_pool_op, input, ksize, strides, padding, 1)


def max_pool2d(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """`max_pool` of (batch, height, width, channels).

    >>> import flowgraph as fg
    >>> fg.nn.max_pool2d(fg.ones((1, 4, 4, 3)), 2).shape
    (1, 2, 2, 3)
    """
    return _pool(max_pool_op, input, ksize, strides, padding, 2)


def avg_pool1d(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """`avg_pool` of (batch, width, channels).

    >>> import flowgraph as fg
    >>> fg.nn.avg_pool1d([[[1.0], [3.0]]], 2).tolist()
    [[[2.0]]]
    """
    return _pool(avg_pool_op, input, ksize, strides, padding, 1)


def avg_pool2d(input: Any, ksize: Any, strides: Any = None, padding: Any = "VALID") -> Tensor:
    """`avg_pool` of (batch, height, width, channels).

    >>> import flowgraph as fg
    >>> fg.nn.avg_pool2d(fg.ones((1, 4, 4, 3)), 2).shape
    (1, 2, 2, 3)
    """
    return _pool(avg_pool_op, input, ksize, strides, padding, 2)
