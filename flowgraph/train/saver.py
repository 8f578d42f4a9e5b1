"""Saver: the variables of a session in files, as durable states (see `store`).

DIR/model-10/          a state: the values of the variables by name
DIR/checkpoint         which states there are, the newest first
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgraph.errors import DataError, UsageError
from flowgraph.session.building import global_variables
from flowgraph.session.graph_variable import GraphVariable
from flowgraph.store import check_free, load_state, save_state

LIST = "checkpoint"


class Saver:
    """Saves and restores the variables of a session.

    `var_list` is a list of variables, or a dict of variables by the name that they have in the file; all global
    variables that there are by now if not given. Of the states that it saved the last `max_to_keep` are kept (None or
    0: all).

    >>> import tempfile, flowgraph as fg
    >>> with fg.Graph().as_default(), tempfile.TemporaryDirectory() as folder:
    ...     v = fg.Variable(3.0, name="v")
    ...     saver = fg.train.Saver()
    ...     with fg.Session() as session:
    ...         session.run(v.initializer)
    ...         path = saver.save(session, folder + "/model", global_step=7)
    ...     with fg.Session() as session:
    ...         saver.restore(session, fg.train.latest_checkpoint(folder))
    ...         float(session.run(v))
    3.0
    """

    def __init__(self, var_list: Any = None, max_to_keep: int | None = 5) -> None:
        chosen = global_variables() if var_list is None else var_list
        given = dict(chosen) if isinstance(chosen, Mapping) else {one.op.name: one for one in chosen}
        if not given:
            raise UsageError("a Saver", "there are no variables to save", "Make it after the variables.")
        for one in given.values():
            if not isinstance(one, GraphVariable):
                raise UsageError(f"a Saver of {one!r:.200}", "it is no variable of a graph", "Give variables.")
        if not isinstance(chosen, Mapping) and len(given) < len(chosen):
            raise UsageError("a Saver", "two variables have one name", "Give a dict of variables by name.")
        self._variables: dict[str, GraphVariable] = given
        self._keep = max_to_keep
        self._saved: list[str] = []

    @property
    def last_checkpoints(self) -> list[str]:
        """The paths of the states that it saved and kept, the newest last."""
        return list(self._saved)

    def save(self, sess: Any, save_path: str | Path, global_step: Any = None) -> str:
        """The path of a new state with the values in `sess`: `save_path`, a dash and the step if one is given."""
        path = str(save_path)
        if global_step is not None:
            step = sess.run(global_step) if isinstance(global_step, GraphVariable) else global_step
            path = f"{path}-{int(step)}"
        values = sess.values(list(self._variables.values()))
        save_state(path, dict(zip(self._variables, values, strict=True)), {"kind": "variables"}, replace=True)
        self._saved = [one for one in self._saved if one != path] + [path]
        while self._keep and len(self._saved) > self._keep:
            self._remove(self._saved.pop(0))
        text = "".join(f"{Path(one).name}\n" for one in reversed(self._saved))
        Path(path).with_name(LIST).write_text(text, encoding="utf-8")
        return path

    @staticmethod
    def _remove(path: str) -> None:
        check_free(path, replace=True)  # nothing but a state of ours is removed
        shutil.rmtree(path, ignore_errors=True)

    def restore(self, sess: Any, save_path: str | Path | None) -> None:
        """Give the variables in `sess` the values that were saved, all at once. Returns nothing.

        Raises DataError where a variable is missing or has another shape or dtype.
        """
        if save_path is None:
            raise UsageError("to restore variables", "no path was given", "Give what `save` returned.")
        arrays, _ = load_state(save_path)
        asked = f"to restore variables from {str(save_path)!r}"
        for name, variable in self._variables.items():
            if name not in arrays:
                raise DataError(asked, f"it has no {name!r}", f"It has {', '.join(sorted(arrays))}.")
            found = arrays[name]
            if found.shape != variable.shape or found.dtype != variable.dtype:
                raise DataError(
                    asked,
                    f"{name!r} is {found.dtype} of shape {found.shape}, the variable {variable.type}",
                    "Restore what was saved from variables like these.",
                )
        sess.load({variable: arrays[name] for name, variable in self._variables.items()})


def latest_checkpoint(checkpoint_dir: str | Path) -> str | None:
    """The path of the newest state that a Saver saved in `checkpoint_dir`; None if there is none."""
    listed = Path(checkpoint_dir) / LIST
    names: Sequence[str] = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else ()
    for name in names:
        path = Path(checkpoint_dir) / Path(name).name
        if path.is_dir():
            return str(path)
    return None
