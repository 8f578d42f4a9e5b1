"""The table of aliases: TensorFlow's name, and what flowgraph calls it.

A row's value is a function with TensorFlow's arguments, or the words "target operand operand theirs=ours": flowgraph's
dotted name, TensorFlow's names of the operands (which flowgraph takes by position), and of other arguments.

Where TensorFlow and the Python Array API standard mean different things by one name, the standard has it at top level
and in `linalg`, and TensorFlow's is found under `compat.v2`, which has every row of this table:

- `argmax`, `argmin` without an axis: the standard flattens, TensorFlow takes the first axis. Also `math.argmax`.
- `sort`, `argsort`: `descending=` in the standard, `direction=` in TensorFlow.
- `unstack`: a tuple, and no `num`. `size`: `axes=` here, `out_type=` there. `searchsorted`: x1, x2 there are by name.
- `eye`: the third argument is the diagonal, in TensorFlow the shape of the batch.
- `gather`: TensorFlow's third argument, `validate_indices`, does nothing and is left out at top level.
- `reverse` is a room of flowgraph; `flip` does what it says.
- `linalg.svd` returns (U, S, Vh) in the standard and (s, u, v) in TensorFlow; `linalg.qr` takes `mode=`.
- `linalg.inv`, `linalg.solve` take no `adjoint=`, `linalg.matrix_rank` takes `rtol=`, in TensorFlow an absolute `tol=`.
- `linalg.trace`, `linalg.cross` and others take no operands by name.
- `count_nonzero` and `top_k` count in the default integer; `math.count_nonzero`, `math.top_k` as TensorFlow does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowgraph.spellings import arrays, numbers

_REDUCTIONS: dict[str, str | Callable[..., Any]] = {
    "reduce_all": "all input_tensor",
    "reduce_any": "any input_tensor",
    "reduce_logsumexp": "logsumexp input_tensor",
    "reduce_max": "max input_tensor",
    "reduce_mean": "mean input_tensor",
    "reduce_min": "min input_tensor",
    "reduce_prod": "prod input_tensor",
    "reduce_std": "std input_tensor",
    "reduce_sum": "sum input_tensor",
    "reduce_variance": "var input_tensor",
}

_ELEMENTS: dict[str, str | Callable[..., Any]] = {
    "abs": "abs x",
    "acos": "acos x",
    "acosh": "acosh x",
    "add": "add x y",
    "add_n": numbers.add_n,
    "argmax": arrays.argmax,
    "argmin": arrays.argmin,
    "asin": "asin x",
    "asinh": "asinh x",
    "atan": "atan x",
    "atan2": "atan2 y x",
    "atanh": "atanh x",
    "ceil": "ceil x",
    "conj": "conj x",
    "cos": "cos x",
    "cosh": "cosh x",
    "cumsum": "cumsum x",
    "divide": "divide x y",
    "equal": "equal x y",
    "exp": "exp x",
    "floor": "floor x",
    "greater": "greater x y",
    "greater_equal": "greater_equal x y",
    "less": "less x y",
    "less_equal": "less_equal x y",
    "logical_and": "logical_and x y",
    "logical_not": "logical_not x",
    "logical_or": "logical_or x y",
    "maximum": "maximum x y",
    "minimum": "minimum x y",
    "multiply": "multiply x y",
    "negative": "negative x",
    "not_equal": "not_equal x y",
    "pow": "pow x y",
    "round": "round x",
    "sigmoid": "sigmoid x",
    "sign": "sign x",
    "sin": "sin x",
    "sinh": "sinh x",
    "sqrt": "sqrt x",
    "square": "square x",
    "squared_difference": "squared_difference x y",
    "subtract": "subtract x y",
    "tan": "tan x",
    "tanh": "tanh x",
    "truediv": "divide x y",
    "unsorted_segment_max": "unsorted_segment_max data segment_ids",
    "unsorted_segment_mean": "unsorted_segment_mean data segment_ids",
    "unsorted_segment_min": "unsorted_segment_min data segment_ids",
    "unsorted_segment_prod": "unsorted_segment_prod data segment_ids",
    "unsorted_segment_sum": "unsorted_segment_sum data segment_ids",
}
"""What TensorFlow has both at top level and in `math`, as it has the reductions."""

_MATH: dict[str, str | Callable[..., Any]] = {
    "accumulate_n": numbers.add_n,
    "angle": "angle input",
    "bessel_i0e": "i0e x",
    "bessel_i1e": "i1e x",
    "count_nonzero": numbers.count_nonzero,
    "cumprod": "cumprod x",
    "digamma": "digamma x",
    "divide_no_nan": numbers.divide_no_nan,
    "erf": "erf x",
    "erfc": "erfc x",
    "erfinv": "erfinv x",
    "expm1": "expm1 x",
    "floordiv": "floor_divide x y",
    "floormod": "remainder x y",
    "imag": "imag input",
    "in_top_k": numbers.in_top_k,
    "invert_permutation": numbers.invert_permutation,
    "is_finite": "isfinite x",
    "is_inf": "isinf x",
    "is_nan": "isnan x",
    "l2_normalize": "nn.l2_normalize x",
    "lgamma": "lgamma x",
    "log": "log x",
    "log1p": "log1p x",
    "log_sigmoid": "log_sigmoid x",
    "log_softmax": "log_softmax logits",
    "logical_xor": "logical_xor x y",
    "mod": "remainder x y",
    "multiply_no_nan": numbers.multiply_no_nan,
    "nextafter": "nextafter x1 x2",
    "polygamma": "polygamma a x",
    "polyval": numbers.polyval,
    "real": "real input",
    "reduce_euclidean_norm": "linalg.vector_norm input_tensor",
    "reciprocal": "reciprocal x",
    "reciprocal_no_nan": numbers.reciprocal_no_nan,
    "rint": "round x",
    "rsqrt": "rsqrt x",
    "segment_max": "segment_max",
    "segment_mean": "segment_mean",
    "segment_min": "segment_min",
    "segment_prod": "segment_prod",
    "segment_sum": "segment_sum",
    "softmax": "softmax logits",
    "softplus": "softplus features",
    "softsign": "softsign features",
    "top_k": numbers.top_k,
    "xdivy": numbers.xdivy,
    "xlog1py": numbers.xlog1py,
    "xlogy": "xlogy x y",
    "zero_fraction": numbers.zero_fraction,
}

_ARRAYS: dict[str, str | Callable[..., Any]] = {
    "argsort": arrays.argsort,
    "boolean_mask": "boolean_mask tensor mask",
    "broadcast_to": "broadcast_to input",
    "cast": arrays.cast,
    "clip_by_global_norm": numbers.clip_by_global_norm,
    "clip_by_norm": numbers.clip_by_norm,
    "clip_by_value": "clip_by_value t",
    "complex": "complex real imag",
    "concat": "concat values",
    "convert_to_tensor": arrays.convert_to_tensor,
    "einsum": "einsum",
    "expand_dims": "expand_dims input",
    "eye": arrays.eye,
    "fill": arrays.fill,
    "floordiv": "floor_divide x y",
    "gather": arrays.gather,
    "gather_nd": "gather_nd params indices",
    "identity": "identity input",
    "is_tensor": arrays.is_tensor,
    "linspace": "linspace",
    "matmul": arrays.matmul,
    "mod": "remainder x y",
    "norm": "norm tensor",
    "one_hot": arrays.one_hot,
    "ones_like": "ones_like input",
    "pad": "pad tensor",
    "range": arrays.range,
    "rank": arrays.rank,
    "repeat": "repeat input",
    "reshape": "reshape tensor",
    "reverse": arrays.reverse,
    "roll": "roll input",
    "scatter_nd": "scatter_nd indices updates",
    "searchsorted": arrays.searchsorted,
    "shape": arrays.shape,
    "size": arrays.size,
    "sort": arrays.sort,
    "split": "split value",
    "squeeze": "squeeze input",
    "stack": "stack values",
    "stop_gradient": "stop_gradient input",
    "tensor_scatter_nd_add": "tensor_scatter_nd_add tensor indices updates",
    "tensor_scatter_nd_update": "tensor_scatter_nd_update tensor indices updates",
    "tensordot": "tensordot a b",
    "tile": "tile input multiples",
    "transpose": arrays.transpose,
    "unique": arrays.unique,
    "unique_with_counts": arrays.unique_with_counts,
    "unstack": arrays.unstack,
    "where": arrays.where,
    "zeros_like": "zeros_like input",
}

_LINALG: dict[str, str | Callable[..., Any]] = {
    "adjoint": arrays.adjoint,
    "band_part": "linalg.band_part input",
    "cholesky": "linalg.cholesky input",
    "cholesky_solve": numbers.cholesky_solve,
    "cross": "linalg.cross a b",
    "det": "linalg.det input",
    "diag": "linalg.diag",
    "diag_part": "linalg.diag_part input",
    "eigh": "linalg.eigh tensor",
    "eigvalsh": "linalg.eigvalsh tensor",
    "einsum": "einsum",
    "expm": "linalg.expm input",
    "eye": arrays.eye,
    "global_norm": numbers.global_norm,
    "inv": numbers.inv,
    "l2_normalize": "nn.l2_normalize x",
    "logdet": numbers.logdet,
    "lstsq": "linalg.lstsq",
    "matmul": arrays.matmul,
    "matrix_rank": numbers.matrix_rank,
    "matrix_transpose": arrays.matrix_transpose,
    "matvec": numbers.matvec,
    "norm": "norm tensor",
    "normalize": numbers.normalize,
    "pinv": "linalg.pinv a rcond=rtol",
    "qr": numbers.qr,
    "slogdet": "linalg.slogdet input",
    "solve": numbers.solve,
    "svd": numbers.svd,
    "tensor_diag": numbers.tensor_diag,
    "tensor_diag_part": numbers.tensor_diag_part,
    "tensordot": "tensordot a b",
    "trace": "linalg.trace x",
    "triangular_solve": "linalg.triangular_solve matrix rhs",
}

_NN: dict[str, str | Callable[..., Any]] = {
    "elu": "elu features",
    "embedding_lookup": "embedding_lookup",
    "gelu": "gelu features",
    "in_top_k": numbers.in_top_k,
    "l2_loss": numbers.l2_loss,
    "leaky_relu": "leaky_relu features",
    "log_softmax": "log_softmax logits",
    "relu": "relu features",
    "relu6": "relu6 features",
    "selu": "selu features",
    "sigmoid": "sigmoid x",
    "silu": "silu features",
    "softmax": "softmax logits",
    "softplus": "softplus features",
    "softsign": "softsign features",
    "swish": "silu features",
    "tanh": "tanh x",
    "top_k": numbers.top_k,
    "zero_fraction": numbers.zero_fraction,
}

_ACTIVATIONS: dict[str, str | Callable[..., Any]] = {
    "elu": "elu x",
    "exponential": "exp x",
    "gelu": "gelu x",
    "leaky_relu": "leaky_relu x negative_slope=alpha",
    "log_softmax": "log_softmax x",
    "mish": "mish x",
    "relu": "relu x",
    "relu6": "relu6 x",
    "selu": "selu x",
    "sigmoid": "sigmoid x",
    "silu": "silu x",
    "softmax": "softmax x",
    "softplus": "softplus x",
    "softsign": "softsign x",
    "swish": "silu x",
    "tanh": "tanh x",
}

_INITIALIZERS: dict[str, str | Callable[..., Any]] = {
    "Constant": "constant_initializer",
    "GlorotNormal": "glorot_normal_initializer",
    "GlorotUniform": "glorot_uniform_initializer",
    "Ones": "ones_initializer",
    "RandomNormal": "session.initializers.RandomNormal",
    "RandomUniform": "session.initializers.RandomUniform",
    "Zeros": "zeros_initializer",
}

_LOSSES: dict[str, str | Callable[..., Any]] = {
    "KLD": "keras.losses.kl_divergence",
    "MAE": "keras.losses.mae",
    "MSE": "keras.losses.mse",
    "kld": "keras.losses.kl_divergence",
    "logcosh": "keras.losses.log_cosh",
}

_METRICS: dict[str, str | Callable[..., Any]] = {
    "binary_crossentropy": "keras.losses.binary_crossentropy",
    "categorical_crossentropy": "keras.losses.categorical_crossentropy",
    "hinge": "keras.losses.hinge",
    "kl_divergence": "keras.losses.kl_divergence",
    "mae": "keras.losses.mae",
    "mean_absolute_error": "keras.losses.mae",
    "mean_squared_error": "keras.losses.mse",
    "mse": "keras.losses.mse",
    "poisson": "keras.losses.poisson",
    "sparse_categorical_crossentropy": "keras.losses.sparse_categorical_crossentropy",
    "squared_hinge": "keras.losses.squared_hinge",
}


def _below(prefix: str, rows: dict[str, str | Callable[..., Any]]) -> dict[str, str | Callable[..., Any]]:
    return {f"{prefix}{name}": row for name, row in rows.items()}


TABLE: dict[str, str | Callable[..., Any]] = {
    **_ARRAYS,
    **_ELEMENTS,
    **_REDUCTIONS,
    **_below("math.", _ELEMENTS | _REDUCTIONS | _MATH),
    **_below("linalg.", _LINALG),
    **_below("nn.", _NN),
    **_below("keras.activations.", _ACTIVATIONS),
    **_below("keras.initializers.", _INITIALIZERS),
    **_below("keras.losses.", _LOSSES),
    **_below("keras.metrics.", _METRICS),
}
"""A row for each alias: TensorFlow's dotted name, and flowgraph's function."""
