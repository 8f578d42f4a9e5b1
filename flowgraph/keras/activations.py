"""keras.activations: functions of one tensor, by Keras's names, looked up in the table of spellings."""

from flowgraph.spellings import lookups

__getattr__, __dir__ = lookups(__name__)
