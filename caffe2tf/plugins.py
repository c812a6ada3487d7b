"""Layer types of a user's own: a Python file, or what an installed package offers as an entry point of `caffe2tf.layers`.

A plugin is code, and nothing loads one unasked: it runs when it is named here or with --plugin.
"""

import os
import sys
from importlib import metadata
from types import ModuleType, TracebackType
from typing import Any

from caffe2tf.errors import Caffe2TFError, PluginError
from caffe2tf.layers import REGISTRY, Layer, registry, users

GROUP = "caffe2tf.layers"
_LOADED: "dict[str, Plugin]" = {}


class Plugin:
    """Layer types that a plugin added: `name` as it was named, `types` the Caffe types. They are known until `unload`, or to the
    end of a `with` block."""

    def __init__(self, name: str, kinds: tuple[type[Layer], ...], module: str | None) -> None:
        self.name, self._kinds, self._module = name, kinds, module
        self.types = tuple(dict.fromkeys(one for kind in kinds for one in kind.types))

    def __repr__(self) -> str:
        return f"<Plugin {self.name}: {', '.join(self.types)}>"

    def unload(self) -> None:
        """Networks with its layers are not loaded any more; those that are stay what they are, at the shapes that they have."""
        for kind in self._kinds:
            registry.forget(kind)
        for key in [key for key, one in _LOADED.items() if one is self]:
            del _LOADED[key]
        if self._module is not None:
            sys.modules.pop(self._module, None)

    def __enter__(self) -> "Plugin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()


def plugin(source: str | os.PathLike[str]) -> Plugin:
    """Runs a plugin: the Python file `source`, or the entry point of that name in the group `caffe2tf.layers` of an installed
    package, and adds the types of its subclasses of `caffe2tf.layers.Layer`. Named once more, it is loaded anew.

    Raises PluginError, with its file and line, where it fails, adds no type, or one that is known already.
    """
    name = os.fspath(source)
    is_file = name.endswith(".py") or os.path.dirname(name) or os.path.isfile(name)
    key = os.path.realpath(name) if is_file else name
    if key in _LOADED:
        _LOADED[key].unload()
    before = dict(REGISTRY)
    try:
        made, module = _run(name, key) if is_file else _installed(name)
        if dict(REGISTRY) == before:  # of a package that was imported before
            for kind in _kinds_in(made):
                registry.register(kind)
    except BaseException as error:
        _restore(before)
        if isinstance(error, (Caffe2TFError, KeyboardInterrupt, MemoryError)) and not isinstance(error, SystemExit):
            raise
        raise PluginError(f"{_where(error, name)}: {users.said(error)}") from error
    kinds = tuple(dict.fromkeys(kind for one, kind in REGISTRY.items() if before.get(one) is not kind))
    if not kinds:
        raise PluginError(f"{name}: adds no layer type; takes a subclass of caffe2tf.layers.Layer with its `type`")
    _LOADED[key] = Plugin(name, kinds, module)
    return _LOADED[key]


def _run(name: str, path: str) -> tuple[ModuleType, str]:
    """The module that a file makes, and its name. No compiled copy is left beside it."""
    try:
        with open(path, "rb") as file:
            code = file.read()
    except OSError as error:
        raise PluginError(f"{name}: {(error.strerror or str(error)).lower()}; `plugin` takes a Python file") from None
    module = ModuleType(f"caffe2tf_plugin_{os.path.splitext(os.path.basename(path))[0]}_{len(_LOADED)}")
    module.__file__ = name
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, name, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module, module.__name__


def _installed(name: str) -> tuple[Any, None]:
    """What the entry point `name` loads, a module or a class."""
    found = metadata.entry_points(group=GROUP)
    named = {one.value: one for one in found if one.name == name}
    if len(named) != 1:
        known = ", ".join(sorted({one.name for one in found})) or "none"
        why = f"several packages offer it ({', '.join(sorted(named))})" if named else f"installed are: {known}"
        raise PluginError(f"{name}: is neither a Python file nor one entry point of {GROUP}; {why}")
    (entry,) = named.values()
    return entry.load(), None


def _kinds_in(made: Any) -> list[type[Layer]]:
    values = vars(made).values() if isinstance(made, ModuleType) else [made]
    kinds = [one for one in values if isinstance(one, type) and issubclass(one, Layer) and one.types]
    return [kind for kind in kinds if not kind.__module__.startswith("caffe2tf.")]


def _restore(before: dict[str, type[Layer]]) -> None:
    for one, kind in list(REGISTRY.items()):
        if before.get(one) is not kind:
            registry.forget(kind)
    for kind in before.values():
        registry.register(kind)


def _where(error: BaseException, name: str) -> str:
    """FILE:LINE where a plugin failed."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    return users.place(error, name if name.endswith(".py") else None)
