"""Plans: how a program is best cut over workers of so much memory, before it runs."""

from flowgraph.machine import Rates, measured_rates
from flowgraph.planner.automatic import placed
from flowgraph.planner.plan import Plan, plan

__all__ = ["Plan", "Rates", "measured_rates", "placed", "plan"]
