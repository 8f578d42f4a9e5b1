"""Plans: how a program is best cut over workers of so much memory, before it runs."""

from flowgraph.partition.cost import Rates
from flowgraph.planner.automatic import placed
from flowgraph.planner.plan import Plan, measured_rates, plan

__all__ = ["Plan", "Rates", "measured_rates", "placed", "plan"]
