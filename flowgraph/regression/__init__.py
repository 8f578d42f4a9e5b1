"""Linear models of rows: fitted through the engine, reported in the units of the data, saved and drawn."""

from flowgraph.regression.linear import LOSSES, OPTIMIZERS, fit_linear
from flowgraph.regression.model import LinearModel

__all__ = ["LOSSES", "OPTIMIZERS", "LinearModel", "fit_linear"]
