"""TensorFlow's `math`: elementwise functions, reductions and segments, with TensorFlow's arguments.

>>> import flowgraph as fg
>>> float(fg.math.reduce_sum(input_tensor=[1.0, 2.0]))
3.0
"""

from flowgraph.spellings import lookups

__getattr__, __dir__ = lookups(__name__)
