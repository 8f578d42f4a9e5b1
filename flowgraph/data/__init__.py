"""Rows from files: CSV files parsed, checked and stored as blocks on a fixed grid; Parquet and Zarr where they are."""

from flowgraph.data.chunks import read_zarr
from flowgraph.data.ingest import Ingested, ingest_csv
from flowgraph.data.moments import Moments, moments_of
from flowgraph.data.parquet import read_parquet
from flowgraph.data.source import find_files
from flowgraph.data.tables import read_csv

__all__ = [
    "Ingested",
    "Moments",
    "find_files",
    "ingest_csv",
    "moments_of",
    "read_csv",
    "read_parquet",
    "read_zarr",
]
