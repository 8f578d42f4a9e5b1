"""Rows from files: parsed, checked and stored as blocks on a fixed grid."""

from flowgraph.data.ingest import Ingested, ingest_csv
from flowgraph.data.moments import Moments, moments_of
from flowgraph.data.source import find_files

__all__ = ["Ingested", "Moments", "find_files", "ingest_csv", "moments_of"]
