"""Words from elsewhere, JSON above all: read, and seen to be of the form that its reader goes on with, before it goes on."""

import json
import os
import stat
from typing import Any

from caffe2tf.errors import ParseError

# What a form says: a type; None; [form] for a list of any length; [form, form] for one of that length; (form, form) for one or
# the other; {"key": form, "?key": form} for a dictionary in which the second may lack and others stay unseen; {str: form} for
# one of any keys.
Form = Any
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    None: "null",
    object: "anything",
}


_LONGEST = 1 << 28  # bytes of a file of words: the page of a JSON, a list of labels


def whole(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file of words. Raises OSError, and ParseError without the file's name for a device, which may have no end,
    and for more than 256 MiB."""
    with open(path, "rb") as file:
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
            raise ParseError("is a device, expected a file")
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise ParseError(f"holds more than {_LONGEST} bytes")
    return data


def parsed(text: str | bytes, form: Form = dict) -> Any:
    """What the JSON `text` holds. Raises ParseError, without a file's name, for what is no JSON and what is not of `form`."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ParseError("is no JSON that can be read: it is nested too deep") from None
    except ValueError as error:  # of whatever encoding or syntax
        raise ParseError(f"is no JSON: {error}") from None
    check(found, form)
    return found


def check(value: object, form: Form, where: str = "") -> None:
    """Raises ParseError where `value`, which stands at `where` in the whole, is not of `form`. A whole number has 64 bits at
    most, a number may be NaN or infinite, and a text is one that can be written out."""
    if isinstance(form, tuple):
        if any(_fits(value, one) for one in form):
            return
    elif isinstance(form, list) and isinstance(value, list):
        if len(form) in (1, len(value)):
            for index, item in enumerate(value):
                check(item, form[index if len(form) > 1 else 0], f"{where}[{index}]")
            return
    elif isinstance(form, dict) and isinstance(value, dict):
        _check_keys(value, form, where)
        return
    elif (form is None or isinstance(form, type)) and _is(value, form):
        return
    raise ParseError(f"{_named(where)} is {_shown(value)}; takes {said(form)}")


def _check_keys(value: dict[Any, Any], form: dict[Any, Form], where: str) -> None:
    if str in form:
        for key, item in value.items():
            check(key, str, where)
            check(item, form[str], _in(key, where))
        return
    for key, inner in form.items():
        name = key.removeprefix("?")
        if name in value:
            check(value[name], inner, _in(name, where))
        elif key == name:
            raise ParseError(f"{_named(where)} lacks '{name}'")


def _in(name: str, where: str) -> str:
    return f"{where}.{name}" if where else name


def _named(where: str) -> str:
    return f"'{where}'" if where else "it"


def _fits(value: object, form: Form) -> bool:
    try:
        check(value, form)
    except ParseError:
        return False
    return True


def _is(value: object, kind: type | None) -> bool:
    if kind is None or kind is object:
        return value is None or kind is object
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        return whole or (kind is float and isinstance(value, float))
    if kind is str and isinstance(value, str):
        return not any(0xD800 <= ord(character) < 0xE000 for character in value)  # halves, which no file takes
    return isinstance(value, kind)


def said(form: Form) -> str:
    """`form` in words."""
    if isinstance(form, tuple):
        return " or ".join(dict.fromkeys(map(said, form)))
    if isinstance(form, list):
        return "a list" if len(form) == 1 else f"a list of {len(form)}"
    if isinstance(form, dict) or form is dict:
        return "an object"
    return _WORDS.get(form, getattr(form, "__name__", str(form)))


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = f"'{value}'" if isinstance(value, str) else "a number of many digits" if _long(value) else json.dumps(value)
    return text if len(text) < 60 else f"{text[:60]}...'"


def _long(value: object) -> bool:
    return isinstance(value, int) and not -(2**200) < value < 2**200
