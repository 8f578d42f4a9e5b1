"""Linear algebra: the extension `linalg` of the Array API standard, and TensorFlow's functions beyond it."""

from flowgraph.ops.decompositions import (
    EighResult as EighResult,
    QRResult as QRResult,
    SVDResult as SVDResult,
    cholesky as cholesky,
    eigh as eigh,
    eigvalsh as eigvalsh,
    qr as qr,
    svd as svd,
    svdvals as svdvals,
)
from flowgraph.ops.diagonals import (
    band_part as band_part,
    diag as diag,
    diag_part as diag_part,
    diagonal as diagonal,
    trace as trace,
)
from flowgraph.ops.einsum import einsum as einsum, inner as inner, tensordot as tensordot, vecdot as vecdot
from flowgraph.ops.linalg import (
    cross as cross,
    kron as kron,
    matmul as matmul,
    matrix_transpose as matrix_transpose,
    outer as outer,
)
from flowgraph.ops.norms import (
    matrix_norm as matrix_norm,
    matrix_rank as matrix_rank,
    norm as norm,
    vector_norm as vector_norm,
)
from flowgraph.ops.solvers import (
    SlogdetResult as SlogdetResult,
    det as det,
    inv as inv,
    lstsq as lstsq,
    matrix_power as matrix_power,
    pinv as pinv,
    slogdet as slogdet,
    solve as solve,
    triangular_solve as triangular_solve,
)
