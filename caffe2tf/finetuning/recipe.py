"""A Recipe from what is typed, from a TOML file, and as one."""

import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from caffe2tf.arrays.numbers import reason
from caffe2tf.errors import ParseError as FileError
from caffe2tf.errors import guarded
from caffe2tf.files import records
from caffe2tf.finetuning import solving
from caffe2tf.finetuning.settings import OPTIONS, STAGE_KEYS, Recipe, RecipeError, Stage, convert, text_of

FILE = "recipe.toml"


def of(
    values: Mapping[str, Any], stages: Sequence[Mapping[str, Any]] = (), head: Callable[[], str] = lambda: "fc8"
) -> Recipe:
    """The Recipe of `values` {key: value}; each of `stages` changes some of them in a stage of its own. `head` names the layer that
    is offered where none is named. Raises RecipeError."""
    found = _checked(values, tuple(OPTIONS), "finetune")
    common = {key: value for key, value in found.items() if key in STAGE_KEYS}
    run = {key: value for key, value in found.items() if key not in STAGE_KEYS}
    changes = [_checked(stage, STAGE_KEYS, f"stage {n}") for n, stage in enumerate(stages, 1)]
    return _made(run, common, changes, "stage" if stages else None, head)


def _made(
    run: dict[str, Any],
    common: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    where: str | None,
    head: Callable[[], str] = lambda: "fc8",
) -> Recipe:
    """The Recipe of its own fields and those of its stages: what `changes` make of `common`, or `common` alone."""
    if run.get("solver") is not None:
        if len(changes) > 1:
            raise RecipeError(
                f"{len(changes)} stages beside `solver`, which is one; leave the solver or the stages out"
            )
        stage, pictures = solving.stage(run, {**common, **(changes[0] if changes else {})})
        return Recipe(**pictures | run, stages=(stage,))
    stages = [Stage(**{**common, **change}) for change in changes] or [Stage(**common)]
    return _whole(Recipe(**run, stages=tuple(stages)), where, head)


def _whole(recipe: Recipe, where: str | None, head: Callable[[], str] = lambda: "fc8") -> Recipe:
    for number, stage in enumerate(recipe.stages, 1):
        if not stage.layers:
            what = f"{where} {number}" if where else "the run"
            raise RecipeError(
                f"{what} names no layers; say which train: {'layers=' if where else '`layers` '}{head()} or all"
            )
        if stage.optimizer == "adam" and stage.momentum != Stage.momentum:
            raise RecipeError(f"momentum {stage.momentum:g} is of sgd; adam has none")
    return recipe


def stage(text: str, where: str) -> dict[str, Any]:
    """The settings of "layers=fc8 epochs=30", the text of a stage. Raises RecipeError."""
    pairs = {}
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise RecipeError(f"{where}: {text}: {error}") from None
    for part in parts:
        key, equal, value = part.partition("=")
        if not equal:
            raise RecipeError(f"{where}: '{part}'; takes KEY=VALUE with blanks between")
        pairs[key] = value
    return _checked(pairs, STAGE_KEYS, where)


def _checked(pairs: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
    """{key: value} converted. Raises RecipeError for a key that is not known, with the nearest."""
    found = {}
    for key, value in pairs.items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise RecipeError(
                f"{where}: unknown key '{key}'; " + (f"nearest: {near[0]}" if near else f"known: {', '.join(known)}")
            )
        found[name] = value if value is None else convert(name, value, f"{where}: {key}")
    return found


def read(path: str | os.PathLike[str]) -> Recipe:
    """The Recipe in the TOML file `path`, whose paths are relative to its folder. Raises RecipeError."""
    path = os.fspath(path)
    with guarded(path):
        return _read(path)


def _read(path: str) -> Recipe:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = records.whole(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, FileError) as error:
        raise RecipeError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        values = tomlkit.parse(text).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:  # dates that are none are ValueErrors
        raise RecipeError(f"{path}: is no TOML: {reason(error)}") from None
    stages = values.pop("stage", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise RecipeError(f"{path}: stage; takes tables [[stage]]")
    found = _checked(values, tuple(OPTIONS), path)
    common = {key: value for key, value in found.items() if key in STAGE_KEYS}
    run = {key: value for key, value in found.items() if key not in STAGE_KEYS}
    changes = [_checked(stage, STAGE_KEYS, f"{path}: stage {n}") for n, stage in enumerate(stages, 1)]
    folder = os.path.dirname(os.path.abspath(path))
    for key, value in run.items():
        if OPTIONS[key].metadata["path"] or _is_file(key, value):
            run[key] = os.path.normpath(os.path.join(folder, value))
    return _made(run, common, changes, f"{path}: stage")


def _is_file(key: str, value: object) -> bool:
    return key == "mean" and str(value).endswith((".npy", ".binaryproto"))


def text(recipe: Recipe, folder: str) -> str:
    """`recipe` as TOML for a file in `folder`: what differs from the defaults, and each stage whole."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("caffe2tf finetune --recipe THIS_FILE --out DIR runs it again"))
    for f in fields(Recipe):
        value = getattr(recipe, f.name)
        if f.metadata and value not in (f.default, None):
            is_path = f.metadata["path"] or _is_file(f.name, value)
            document[f.name] = _relative(value, folder) if is_path else text_of(value)
    stages = tomlkit.aot()
    for stage in recipe.stages:
        table = tomlkit.table()
        for key in STAGE_KEYS:
            value = getattr(stage, key)
            if value is not None and (stage.solver is None or key not in solving.SAID):
                table[key] = text_of(value)
        stages.append(table)
    document["stage"] = stages
    return tomlkit.dumps(document)


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return os.path.abspath(path)


def difference(one: Recipe, other: Recipe) -> str | None:
    """The first setting in which two recipes differ, as words, or None."""
    for f in fields(Recipe):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name != "stages" and (_place(a) != _place(b) if f.metadata["path"] or _is_file(f.name, a) else a != b):
            return f"{f.name} {text_of(a)}, not {text_of(b)}"
    if len(one.stages) != len(other.stages):
        return f"{len(one.stages)} stages, not {len(other.stages)}"
    for number, (a, b) in enumerate(zip(one.stages, other.stages, strict=True), 1):
        for key in STAGE_KEYS:
            if getattr(a, key) != getattr(b, key):
                return f"{key} {text_of(getattr(a, key))}, not {text_of(getattr(b, key))} (stage {number})"
    return None


def _place(path: Any) -> Any:
    return os.path.abspath(path) if isinstance(path, str) else path
