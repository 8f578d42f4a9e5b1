"""Differentiation on demand: vjp, jvp, jacobian, hessian, hvp, vmap, custom gradients, recomputation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.op import OPS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
W = RNG.standard_normal((4, 2))


def close(got: Any, wanted: Any, rtol: float = 1e-10) -> None:
    left, right = fg.tree.flatten(got), fg.tree.flatten(wanted)
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-9)


def numeric_jacobian(f: Any, x: Any, step: float = 1e-6) -> Any:
    """Central differences: shape of the result, then shape of `x`."""
    columns = []
    for place in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[place] = step
        columns.append((np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * step))
    out = np.shape(f(x))
    return np.stack(columns, -1).reshape(*out, *x.shape)


# vmap of every operation.

SAMPLES = {str(one): one for op in OPS.values() for one in walk.samples(op) if one.operands}


@pytest.mark.parametrize("name", SAMPLES)
def test_vmap_of_an_op_is_the_op_on_each_element(name: str) -> None:
    """With each operand in turn the one that has no batch, and with all of them batched."""
    sample = SAMPLES[name]
    dtype = next(one for one in walk.DTYPES if walk.takes(sample, one))
    draws = [sample.draw(dtype, seed) for seed in range(3)]
    count = len(draws[0])
    keys = {number for number, one in enumerate(draws[0]) if one.dtype == np.uint64}
    for still in (None, *range(count)):
        axes = tuple(None if number == still or number in keys else 0 for number in range(count))
        if all(axis is None for axis in axes):
            continue
        args = [
            np.array(draws[0][n]) if axis is None else np.stack([one[n] for one in draws])
            for n, axis in enumerate(axes)
        ]
        got = fg.vmap(lambda *xs: sample.op(*xs, **sample.attrs), in_axes=axes)(*args)
        each = []
        for number in range(3):
            own = [arg if axis is None else arg[number] for arg, axis in zip(args, axes, strict=True)]
            each.append(sample.op(*map(fg.constant, own), **sample.attrs))
        wanted = [np.stack([np.asarray(one) for one in results]) for results in zip(*map(listed, each), strict=True)]
        for a, b in zip(listed(got), wanted, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-10, atol=1e-10)


def listed(one: Any) -> list[Any]:
    return list(one) if isinstance(one, tuple) else [one]
