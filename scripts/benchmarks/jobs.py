"""What is measured: jobs of one or more cases, the contenders of each, and the targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

BEST_PEER = "the best peer"


class Contender(NamedTuple):
    """One who takes part: a file `with_<library>.py`, and in it the function that is named after the work."""

    library: str
    needs: tuple[str, ...]
    """The distributions whose versions are printed, those that are installed."""
    python: str = "own"
    """The interpreter: the one that runs the script ("own"), the "peers'", or "tensorflow"'s."""
    suffix: str = ""
    """What stands behind the name of the function, for a second way to do the same work."""
    peer: bool = True
    """Whether it counts when the best peer is sought."""


_CLUSTER = ("flowgraph", "numpy", "dask", "distributed")
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "keras")

CONTENDERS: Mapping[str, Contender] = {
    "flowgraph": Contender("flowgraph", ("flowgraph", "numpy", "dask"), peer=False),
    "read": Contender("numpy", ("numpy",), suffix="_read", peer=False),
    "decode": Contender("files", ("zarr", "pyarrow", "numpy"), suffix="_decode", peer=False),
    "numpy": Contender("numpy", ("numpy",)),
    "torch": Contender("torch", ("torch",), "peers"),
    "jax": Contender("jax", ("jax", "jaxlib"), "peers"),
    "jax-scan": Contender("jax", ("jax", "jaxlib"), "peers", suffix="_scan", peer=False),
    "sklearn": Contender("sklearn", ("scikit-learn",), "peers"),
    "dask": Contender("dask", ("dask",)),
    "tensorflow": Contender("tensorflow", _TENSORFLOW, "tensorflow"),
    "threads": Contender("cluster", _CLUSTER, suffix="_threads", peer=False),
    "here": Contender("cluster", _CLUSTER, suffix="_here", peer=False),
    "by 2": Contender("cluster", _CLUSTER, suffix="_by_2", peer=False),
    "by 16": Contender("cluster", _CLUSTER, suffix="_by_16", peer=False),
    "flat": Contender("cluster", _CLUSTER, suffix="_flat", peer=False),
    "no scheduler": Contender("cluster", _CLUSTER, suffix="_no_scheduler", peer=False),
}


class Unit(NamedTuple):
    """How a number is printed: `factor` of these make a second, or a byte."""

    name: str
    factor: float

    def text(self, value: float) -> str:
        """`value`, in seconds or bytes, in this unit, with three digits that matter."""
        number = value * self.factor
        digits = max(2 - math.floor(math.log10(number)), 0) if number > 0 else 0
        return f"{number:,.{min(digits, 4)}f} {self.name}"


SECONDS = Unit("s", 1)
MILLISECONDS = Unit("ms", 1e3)
MICROSECONDS = Unit("us", 1e6)
MEGABYTES = Unit("MB", 1e-6)
KILOBYTES = Unit("kB", 1e-3)
TASKS = Unit("tasks", 1)


class Target(NamedTuple):
    """What the project has set itself: a number for flowgraph alone, or one that compares it with another contender."""

    kind: str
    """faster: the other takes `number` times as long, or longer. within: flowgraph takes at most `number` times as long
    as the other. at most: flowgraph's number, in seconds or bytes."""
    number: float
    of: str = ""
    """A contender, or the best peer."""

    def text(self, unit: Unit) -> str:
        """The target in words."""
        if self.kind == "at most":
            return f"at most {self.number * unit.factor:g} {unit.name}"
        if self.kind == "within":
            return f"at most {self.number:.3g}x the time of {self.of}"
        return f"faster than {self.of}" if self.number == 1 else f"at least {self.number:g}x faster than {self.of}"

    def judge(self, own: float, other: float) -> tuple[float, bool]:
        """What there is to compare with `number`, and whether the target is met. `other` is the number of `of`."""
        if self.kind == "faster":
            return other / own, other >= self.number * own
        if self.kind == "within":
            return own / other, own <= self.number * other
        return own, own <= self.number


def faster(number: float, of: str = BEST_PEER) -> Target:
    """At least `number` times as fast as `of`."""
    return Target("faster", number, of)


def within(number: float, of: str) -> Target:
    """At most `number` times the time of `of`."""
    return Target("within", number, of)


def at_most(number: float) -> Target:
    """At most `number` seconds or bytes."""
    return Target("at most", number)


@dataclass(frozen=True)
class Case:
    """What is measured side by side: a work of some size, its contenders and its targets."""

    name: str
    title: str
    """May hold `{rows}` and `{steps}`, which depend on the scale."""
    work: str
    """The function in `data` and in the contenders' files."""
    contenders: tuple[str, ...]
    size: Mapping[str, int | str] = field(default_factory=dict)
    """What the function in `data` takes; `rows` and `steps` shrink with the scale."""
    targets: tuple[Target, ...] = ()
    unit: Unit = SECONDS
    tolerance: float = 1e-3
    """The largest difference between results that counts as agreement, relative to the entries of the result."""
    measure: str = "time"
    """time; memory: the peak beyond the data; or figure: a number that the work gives."""

    def scaled(self, scale: float) -> dict[str, int | str]:
        """The size at a scale of 1 or below."""
        least = {"rows": 2_000, "steps": 20}
        return {
            key: max(round(value * scale), min(least[key], value)) if key in least and isinstance(value, int) else value
            for key, value in self.size.items()
        }

    def heading(self, scale: float) -> str:
        """The title with its numbers."""
        return self.title.format_map(self.scaled(scale))


LINEAR = Case(
    "linear",
    "linear regression, {rows:,} x 32: loss and gradients",
    "linear",
    ("flowgraph", "read", "numpy", "torch", "jax", "sklearn", "dask", "tensorflow"),
    {"rows": 8_000_000},
    (faster(2.5), within(1.5, "read")),
)
LOGISTIC = Case(
    "logistic",
    "logistic regression, {rows:,} x 32: loss and gradients",
    "logistic",
    ("flowgraph", "read", "numpy", "torch", "jax", "sklearn", "dask", "tensorflow"),
    {"rows": 4_000_000},
    (faster(1.5),),
)
MLP_SMALL = Case(
    "mlp_small",
    "MLP 32-64-64-1 tanh, {rows:,} rows: loss and gradients",
    "mlp",
    ("flowgraph", "numpy", "torch", "jax", "tensorflow"),
    {"rows": 500_000, "width": 64, "activation": "tanh"},
    (faster(2.3),),
)
MLP_WIDE = Case(
    "mlp_wide",
    "MLP 32-1024-1024-1 relu, {rows:,} rows: loss and gradients",
    "mlp",
    ("flowgraph", "numpy", "torch", "jax", "tensorflow"),
    {"rows": 40_000, "width": 1024, "activation": "relu"},
    (faster(1.2),),
)
THREE_LOOPS = Case(
    "three_loops",
    "linear regression on data standardised by its own statistics, {rows:,} x 32: loss and gradients",
    "three_loops",
    ("flowgraph", "read", "numpy", "torch", "jax", "dask", "tensorflow"),
    {"rows": 2_000_000},
    tolerance=0.01,  # numpy adds up the rows of a column one by one, which costs it three digits
)
SMALL_STEPS = (
    Case(
        "small_steps",
        "25 rows, Adam(0.5), {steps:,} steps in one call: one step",
        "small_steps",
        ("flowgraph", "numpy", "torch", "jax", "jax-scan", "tensorflow"),
        {"steps": 10_000},
        (at_most(10e-6), faster(1, "jax")),
        MICROSECONDS,
        tolerance=0.02,  # so large a rate never comes to rest: rounding decides where it is in the end
    ),
    Case(
        "small_eager",
        "25 rows, Adam(0.5), step by step as a script would, {steps:,} steps: one step",
        "small_eager",
        ("flowgraph", "torch", "tensorflow"),
        {"steps": 200},
        (at_most(500e-6),),
        MICROSECONDS,
    ),
    Case(
        "small_call",
        "a compiled function of two scalars: one call",
        "small_call",
        ("flowgraph", "jax", "tensorflow"),
        {"steps": 1_000},
        (at_most(40e-6),),
        MICROSECONDS,
    ),
    Case(
        "small_node",
        "an addition of 25 numbers in an expression that is not computed yet, {steps:,} of them: one node",
        "small_node",
        ("flowgraph", "torch", "tensorflow"),
        {"steps": 10_000},
        (at_most(8e-6),),
        MICROSECONDS,
    ),
)
COMPILE = tuple(
    Case(
        f"compile_{kind}",
        f"from loss to compiled gradients, MLP 32-n-n-1 tanh with an n that is new, for {what}",
        f"compile_{kind}",
        ("flowgraph", "jax"),
        targets=(at_most(15e-3),),
        unit=MILLISECONDS,
    )
    for kind, what in (("tiles", "data of many tiles"), ("one", "data of one tile"))
)


PROCESSES = Case(
    "processes",
    "MLP 32-64-64-1 tanh, {rows:,} rows, on a Dask cluster of two processes of one thread: loss and gradients",
    "processes",
    ("flowgraph", "threads", "torch"),
    {"rows": 1_000_000, "width": 64, "activation": "tanh"},
    (within(1.11, "threads"), faster(1, "torch")),
    MILLISECONDS,
)
CLUSTER_STEP = (
    Case(
        "cluster_steps",
        "a step of Adam after the other on a Dask cluster of two, little work: one step",
        "cluster_step",
        ("flowgraph", "here"),
        {"steps": 100},
        (at_most(15e-3),),
        MILLISECONDS,
    ),
    Case(
        "cluster_tasks",
        "tasks of such a step",
        "cluster_tasks",
        ("flowgraph",),
        {"steps": 100},
        (at_most(4),),
        TASKS,
        measure="figure",
    ),
    Case(
        "cluster_bytes",
        "bytes of the graph of such a step",
        "cluster_bytes",
        ("flowgraph",),
        {"steps": 100},
        (at_most(100e3),),
        KILOBYTES,
        measure="figure",
    ),
    Case(
        "no_ops",
        "a task that does nothing, {steps:,} at the same time",
        "no_ops",
        ("flowgraph",),
        {"steps": 1_000},
        unit=MILLISECONDS,
    ),
    Case(
        "no_ops_chain",
        "a task that does nothing, {steps:,} one after the other",
        "no_ops_chain",
        ("flowgraph",),
        {"steps": 200},
        unit=MILLISECONDS,
    ),
    Case(
        "no_ops_pairs",
        "two tasks that do nothing, each after both of the pair before it, {steps:,} pairs: one pair",
        "no_ops_pairs",
        ("flowgraph",),
        {"steps": 200},
        unit=MILLISECONDS,
    ),
)
OUT_OF_CORE = tuple(
    Case(
        f"out_of_core_{format}",
        f"linear regression, {{rows:,}} x 32 in {format} on disk, in a process of 1.5 GB: loss and gradients",
        "out_of_core",
        ("flowgraph", "decode", "numpy"),
        {"rows": 47_000_000, "format": format},
        (within(1 / 0.7, "decode"),),
    )
    for format in ("zarr", "parquet")
)
_SHARDS = (1, 10, 100, 1_000, 10_000)
LOWERING = (
    *(
        Case(
            f"lowering_{shards}",
            f"from program and data to the tasks of loss and gradients, MLP 32-16-16-1, {shards:,} shards",
            "lowering",
            ("flowgraph",),
            {"shards": shards},
            (at_most(0.5),) if shards == max(_SHARDS) else (),
            MILLISECONDS,
        )
        for shards in _SHARDS
    ),
    *(
        Case(
            f"planning_{shards}",
            f"from a loss to the stages of loss and gradients, MLP 32-16-16-1, {shards:,} shards",
            "planning",
            ("flowgraph",),
            {"shards": shards},
            unit=MILLISECONDS,
        )
        for shards in (min(_SHARDS), max(_SHARDS))
    ),
)
SIMULATED = tuple(
    Case(
        f"simulated_{width}_{workers}",
        f"simulated cluster, {workers:,} workers of 1 s, MLP 32-{width}-{width}-1: one step",
        "simulated",
        ("flowgraph", "by 2", "by 16", "flat", "no scheduler"),
        {"workers": workers, "width": width},
        measure="figure",
    )
    for width in (64, 1024)
    for workers in (1, 10, 100, 1_000)
)


def _minibatch(batch: int) -> Case:
    return Case(
        f"minibatch_{batch}",
        f"MLP 32-64-64-1 tanh, Adam, batches of {batch} in order, an epoch of {{rows:,}} rows: one step",
        "minibatch",
        ("flowgraph", "numpy", "torch", "jax", "tensorflow"),
        {"rows": 500_000, "batch": batch},
        (faster(3, "torch"), within(1.4, "jax")),
        MICROSECONDS,
        tolerance=0.02,  # rounding grows in thousands of steps
    )


def _memory(case: Case) -> Case:
    return replace(
        case,
        name=f"memory_{case.name}",
        title=f"peak memory beyond the data: {case.title}",
        contenders=tuple(one for one in case.contenders if one != "read"),
        targets=(at_most(100e6),),
        unit=MEGABYTES,
        measure="memory",
    )


JOBS: Mapping[str, tuple[Case, ...]] = {
    "linear": (LINEAR,),
    "logistic": (LOGISTIC,),
    "mlp_small": (MLP_SMALL,),
    "mlp_wide": (MLP_WIDE,),
    "three_loops": (THREE_LOOPS,),
    "memory": tuple(_memory(case) for case in (LINEAR, LOGISTIC, MLP_SMALL, MLP_WIDE)),
    "small_steps": SMALL_STEPS,
    "minibatch": (_minibatch(256), _minibatch(1024)),
    "compile": COMPILE,
    "processes": (PROCESSES,),
    "cluster_step": CLUSTER_STEP,
    "out_of_core": OUT_OF_CORE,
    "lowering": LOWERING,
    "simulated": SIMULATED,
}
CASES: Mapping[str, tuple[Case, ...]] = {case.name: (case,) for job in JOBS.values() for case in job} | dict(JOBS)
"""What may be asked for by name: a job, or one case of it."""
