"""Protobuf's text format, read the way Caffe's users need it: unknown fields of forks are named and skipped.

`google.protobuf.text_format` either refuses an unknown field or drops it without a word; a converter must do
neither, so the format is read here: https://protobuf.dev/reference/protobuf/textformat-spec/.
"""

import re
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe2tf.caffe import extra
from caffe2tf.caffe.caffe_pb2 import V1LayerParameter
from caffe2tf.caffe.faults import Fault, is_idle
from caffe2tf.caffe.messages import decoded
from caffe2tf.errors import ParseError

if TYPE_CHECKING:
    from google._upb._message import FieldDescriptor as CompiledDescriptor

    Field = FieldDescriptor | CompiledDescriptor

_TOKEN = re.compile(
    r"""(?P<space>(?:[\s]|\#[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<word>[A-Za-z0-9_.+\-]+)
      | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_CLOSES = {"{": "}", "<": ">"}
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)")
_MAX_DEPTH = 100
_LAYERS = ("LayerParameter", "V1LayerParameter")


def parse(text: str, message: Message, source: str, faults: list[Fault] | None = None) -> list[str]:
    """Fills `message` from `text`; returns warnings, one line for each unknown field, one for each value that its field does
    not take where that has no part in inference, and one on strings in another encoding than UTF-8. Bytes that are no UTF-8
    are surrogates in `text` (errors="surrogateescape").

    `source` names the text in messages (`deploy.prototxt`). Raises ParseError, a line with its number for each fault: a
    wrong value, a field given twice, and the first that ends the reading, as a brace that is not closed. Where `faults` is
    given, those that do not end the reading go there, and their fields stay unset.
    """
    parser = _Parser(text, source)
    warnings = parser.run(message)
    found = parser.found()
    if found and faults is None:
        raise ParseError(*(fault.line for fault in found))
    (faults if faults is not None else []).extend(found)
    return warnings


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.at, self.line = 0, 1
        self.layer: Message | None = None
        self.faults: list[tuple[int, str, Message | None]] = []
        self.warnings: list[str] = []
        self.encodings: set[str] = set()
        self.kind: str | None = None
        self.value = ""
        self.advance()

    def run(self, message: Message) -> list[str]:
        self.fields(message, closing=None, depth=0)
        other = sorted(self.encodings - {"utf-8"})
        return [*self.warnings, *(f"{self.source}: names that are not UTF-8 are read as {name}" for name in other)]

    def fail(self, why: str) -> NoReturn:
        """Ends the reading."""
        self.faults.append((self.line, why, self.layer))
        raise ParseError(*(fault.line for fault in self.found()))

    def fault(self, line: int, why: str, message: Message | None, name: str) -> None:
        """Notes what field `name` of `message` does not take, and the reading goes on."""
        if is_idle(message, name):
            self.warnings.append(f"{self.source}:{line}: {why}; skipped, for it has no part in inference")
        else:
            self.faults.append((line, why, self.layer))

    def found(self) -> list[Fault]:
        """The faults, told once the layers' names are known."""
        named = [(line, why, getattr(layer, "name", "") or None) for line, why, layer in self.faults]
        return [
            Fault(name, f"{self.source}:{line}: {why}" + (f" (layer '{name}')" if name else ""))
            for line, why, name in named
        ]

    def advance(self) -> None:
        """Makes the next token current: (kind, value), kind None at the end."""
        if self.kind is not None:
            self.at += len(self.value)
        while True:
            match = _TOKEN.match(self.text, self.at)
            if match is None:
                if self.at == len(self.text):
                    self.kind, self.value = None, ""
                    return
                self.fail(f"unexpected character {self.text[self.at]!r}")
            if match.lastgroup != "space":
                self.kind, self.value = match.lastgroup, match.group()
                return
            self.line += match.group().count("\n")
            self.at = match.end()

    def take(self, *marks: str) -> str | None:
        if self.kind == "mark" and self.value in marks:
            mark = self.value
            self.advance()
            return mark
        return None

    def fields(self, message: Message | None, closing: str | None, depth: int, opened: int = 1) -> None:
        """Reads fields up to `closing`, whose { stands on line `opened`; `message` None reads and forgets them."""
        if depth > _MAX_DEPTH:
            self.fail(f"messages nested more than {_MAX_DEPTH} deep")
        while True:
            if self.kind is None:
                if closing is None:
                    return
                self.fail(f"the file ends inside the {{ opened on line {opened}")
            if closing is not None and self.take(closing):
                return
            if self.kind != "word":
                self.fail(f"expected a field name, found {self.value}")
            name, line, start = self.value, self.line, self.at
            self.advance()
            field = message.DESCRIPTOR.fields_by_name.get(name) if message is not None else None
            wanted = message is not None and field is None and extra.takes(message, name)
            if message is not None and field is None and not wanted:
                kind = message.DESCRIPTOR.name
                self.warnings.append(f"{self.source}:{line}: unknown field '{name}' in {kind} skipped")
            self.field(message, field, name, depth)
            if message is not None and wanted:
                extra.keep(message, self.text[start : self.at])
            self.take(",", ";")

    def field(self, message: Message | None, field: "Field | None", name: str, depth: int) -> None:
        colon = self.take(":") is not None
        if colon and self.take("["):
            if field is not None and not field.is_repeated:
                self.fault(self.line, f"field '{name}' takes one value, found a list", message, name)
                field = None
            while not self.take("]"):
                self.one(message, field, name, True, depth)
                if not self.take(",") and self.value != "]":
                    self.fail(f"expected , or ] in the list of '{name}', found {self.value or 'the end of the file'}")
            return
        self.one(message, field, name, colon, depth)

    def one(self, message: Message | None, field: "Field | None", name: str, colon: bool, depth: int) -> None:
        """Reads one value into `message`, or past it where `field` is None or does not take it."""
        line = self.line
        opening = self.take("{", "<")
        why = None
        if field is not None and message is not None:
            if (field.message_type is not None) != bool(opening):
                wanted = "a { block }" if field.message_type is not None else "a value"
                why = f"field '{name}' takes {wanted}, found {opening or self.value or 'the end of the file'}"
            elif not field.is_repeated and message.HasField(name):
                why = f"field '{name}' is given twice"
        if why is not None:
            self.fault(line, why, message, name)
            field = None
        if opening:
            self.block(message, field, name, opening, depth, line)
            return
        if not colon:
            self.fail(f"expected : or {{ after '{name}', found {self.value or 'the end of the file'}")
        if self.kind not in ("word", "string"):
            self.fail(f"expected a value for '{name}', found {self.value or 'the end of the file'}")
        value = self.scalar(message, field, name)
        if field is None or message is None or value is None:
            return
        try:
            if field.is_repeated:
                getattr(message, name).append(value)
            else:
                setattr(message, name, value)
        except (ValueError, TypeError):
            # Python writes no decimals of an integer without end, which hexadecimal digits can make.
            said = f"{value:#x}" if isinstance(value, int) and value.bit_length() > 64 else value
            self.fault(line, f"{said} is out of range for field '{name}'", message, name)

    def block(
        self, message: Message | None, field: "Field | None", name: str, opening: str, depth: int, line: int
    ) -> None:
        child, around = None, self.layer
        if field is not None:
            child = getattr(message, name)
            child = child.add() if field.is_repeated else child
            child.SetInParent()
            if child.DESCRIPTOR.name in _LAYERS:
                self.layer = child
        self.fields(child, _CLOSES[opening], depth + 1, line)
        self.layer = around

    def scalar(self, message: Message | None, field: "Field | None", name: str) -> Any:
        """The value that stands here, None where `field` does not take it."""
        line = self.line
        if self.kind == "string":
            parts = []
            while self.kind == "string":
                parts.append(_ESCAPE.sub(_unescape, self.value[1:-1].encode("utf-8", "surrogateescape")))
                self.advance()
            joined = b"".join(parts)
            text, encoding = decoded(joined)
            self.encodings.add(encoding)
            if field is not None and field.cpp_type != field.CPPTYPE_STRING:
                self.unknown(line, message, field, name, text, f"the string {text!r}")
                return None
            return joined if field is not None and field.type == field.TYPE_BYTES else text
        word = self.value
        self.advance()
        if word == "-" and self.kind == "word":  # protobuf takes a sign apart from its number
            word += self.value
            self.advance()
        if field is None:
            return None
        value = _convert(field, word)
        if value is None:
            self.unknown(line, message, field, name, word, word)
        return value

    def unknown(self, line: int, message: Message | None, field: "Field", name: str, value: str, said: str) -> None:
        """A V1 layer's type that Caffe's list lacks is a fork's, and stays as it is written; any other value is a fault."""
        if isinstance(message, V1LayerParameter) and name == "type":
            message.other_type = value
        else:
            self.fault(line, f"field '{name}' takes a {_kind(field)}, found {said}", message, name)


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, hexa, char = match.groups()
    if octal or hexa:
        return bytes([int(octal, 8) & 0xFF if octal else int(hexa, 16)])
    return _SIMPLE.get(char, char)


def _kind(field: "Field") -> str:
    if field.enum_type is not None:
        return f"value of {field.enum_type.name} ({', '.join(v.name for v in field.enum_type.values)})"
    if field.cpp_type == field.CPPTYPE_BOOL:
        return "bool (true or false)"
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return "number"
    if field.cpp_type == field.CPPTYPE_STRING:
        return "quoted string"
    return "whole number"


def _convert(field: "Field", word: str) -> int | float | bool | None:
    """The value that `word` stands for in `field`, None where it stands for none."""
    if field.enum_type is not None:
        if word in field.enum_type.values_by_name:
            return field.enum_type.values_by_name[word].number
        return int(word) if re.fullmatch("[0-9]{1,9}", word) and int(word) in field.enum_type.values_by_number else None
    if field.cpp_type == field.CPPTYPE_BOOL:
        return {
            "true": True,
            "True": True,
            "t": True,
            "1": True,
            "false": False,
            "False": False,
            "f": False,
            "0": False,
        }.get(word)
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        try:
            return float(word[:-1] if word[-1] in "fF" and word[:-1].lower() not in ("in", "-in") else word)
        except ValueError:
            return None
    if field.cpp_type == field.CPPTYPE_STRING:
        return None
    if not _NUMBER.fullmatch(word):
        return None
    digits = word.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
    try:
        return int(word, 8 if octal else 0)
    except ValueError:
        return None
