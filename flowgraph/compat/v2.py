"""TensorFlow 2: `import flowgraph.compat.v2 as tf`. Every name of flowgraph, with TensorFlow's arguments.

Where the Array API standard gives a name another meaning, this module follows TensorFlow; `spellings.table` says where.

>>> import flowgraph.compat.v2 as tf
>>> tf.argmax(input=[[1, 5], [3, 2]]).tolist()
[1, 0]
"""

from typing import Any

from flowgraph.session.initializers import RandomNormal, RandomUniform
from flowgraph.spellings import Namespace

_NAMES = Namespace("")
_NEW = {"random_normal_initializer": RandomNormal, "random_uniform_initializer": RandomUniform}
"""What has other defaults than the class of this name, which is TensorFlow 1's."""


def __getattr__(name: str) -> Any:
    """A name of TensorFlow 2, made when it is first asked for."""
    try:
        return _NEW[name] if name in _NEW else getattr(_NAMES, name)
    except AttributeError:
        raise AttributeError(f"module 'flowgraph.compat.v2' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return dir(_NAMES)
