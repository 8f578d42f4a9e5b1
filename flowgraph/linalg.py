"""Linear algebra: the extension `linalg` of the Array API standard, and TensorFlow's functions beyond it."""

from flowgraph.ops.decompositions import (
    EighResult,
    QRResult,
    SVDResult,
    cholesky,
    eigh,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from flowgraph.ops.diagonals import (
    band_part,
    diag,
    diag_part,
    diagonal,
    trace,
)
from flowgraph.ops.einsum import einsum, inner, tensordot, vecdot
from flowgraph.ops.least_squares import (
    lstsq,
    pinv,
)
from flowgraph.ops.linalg import (
    cross,
    kron,
    matmul,
    matrix_transpose,
    outer,
)
from flowgraph.ops.norms import (
    matrix_norm,
    matrix_rank,
    norm,
    vector_norm,
)
from flowgraph.ops.solvers import (
    SlogdetResult,
    det,
    expm,
    inv,
    matrix_power,
    slogdet,
    solve,
    triangular_solve,
)
from flowgraph.spellings import lookups

__all__ = [
    "EighResult",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "band_part",
    "cholesky",
    "cross",
    "det",
    "diag",
    "diag_part",
    "diagonal",
    "eigh",
    "eigvalsh",
    "expm",
    "einsum",
    "inner",
    "inv",
    "kron",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]

__getattr__, __dir__ = lookups(__name__)
