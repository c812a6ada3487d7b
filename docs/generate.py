"""What MkDocs adds to the pages of this folder: a page for each command, layer type and format, all made from the code.

MkDocs calls `on_config` and `on_files` (mkdocs.yml, `hooks`). Nothing here is written to this folder.
"""

import ast
import functools
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import helps  # noqa: E402

from caffe2tf import formats, layers, loading  # noqa: E402
from caffe2tf.caffe.caffe_pb2 import LayerParameter  # noqa: E402
from caffe2tf.net.net import Net  # noqa: E402
from caffe2tf.net.wiring import Node  # noqa: E402
from caffe2tf.words import shape  # noqa: E402

Pages = dict[str, str]  # address in the site -> Markdown
_SPECIAL = re.compile(r"([\\*_<>\[\]])")


def escaped(text: str) -> str:
    """`text` as Markdown shows it letter by letter; what stands in backticks is code already."""
    parts = text.split("`")
    return "`".join(part if index % 2 else _SPECIAL.sub(r"\\\1", part) for index, part in enumerate(parts))


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs as they stand, indented ones as code."""
    return "\n\n".join(
        part if part.startswith("    ") else escaped(part) for part in re.split(r"\n\s*\n", inspect.cleandoc(text))
    )


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def rows(heads: list[str], lines: list[list[str]]) -> str:
    """A table; a `|` within a cell stays one."""
    table = [heads, ["---"] * len(heads), *([cell.replace("|", "&#124;") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


# ------------------------------------------------------------------------------------------------ commands


def address(name: str) -> str:
    """The page of the command `name`, as `caffe2tf visualize all`."""
    return f"commands/{'-'.join(name.split()[1:]) or 'index'}.md"


def command_pages() -> Pages:
    return {address(command.name): command_page(command) for command in helps.commands()}


def command_page(command: helps.Help) -> str:
    parts = [f"# {command.name}", fenced(command.usage)]
    for section in command.sections:
        if section.heading:
            parts.append(f"## {section.heading}")
        for text, kept in section.paragraphs:
            parts.append(kept_lines(text) if kept else escaped(text))
        parts += [term(command, name, meaning) for name, meaning in section.terms]
    return "\n\n".join(parts)


def kept_lines(text: str) -> str:
    """A paragraph whose lines stay: what is indented is code, what is not introduces it."""
    found, code = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("  "):
            code.append(line.removeprefix("  "))
            continue
        if code:
            found.append(fenced("\n".join(code)))
            code = []
        found.append(escaped(line))
    return "\n\n".join(filter(None, found))


def term(command: helps.Help, name: str, meaning: str) -> str:
    """An item of a definition list; a command within leads to its page."""
    place = Path(address(f"{command.name} {name}"))
    title = f"`{name}`" if name.startswith("-") else f"[`{name}`]({place.name})"
    return f"{title}\n:   {escaped(meaning)}"


# ------------------------------------------------------------------------------------------------ layers


def families() -> dict[str, list[str]]:
    """{what a module of the layer table holds, by its first line: its types}, in the modules' order."""
    found: dict[str, list[str]] = {}
    for kind, row in sorted(layers.REGISTRY.items(), key=lambda item: (item[1].__module__, item[0].lower())):
        home = importlib.import_module(row.__module__)
        first = " ".join((home.__doc__ or "").split("\n\n")[0].split())
        found.setdefault(re.split(r":| \(|\.$", first)[0], []).append(kind)
    return found


@functools.cache
def golden() -> dict[str, list[tuple[Path, Net]]]:
    """{type: [(folder of a golden case, its network)]}, the shortest texts first."""
    found: dict[str, list[tuple[Path, Net]]] = {}
    texts = [path for part in ("layers", "forks") for path in (ROOT / "golden" / part).glob("*/net.prototxt")]
    for text in sorted(texts, key=lambda path: (path.stat().st_size, path)):
        net = loading.load(str(text))
        for kind in dict.fromkeys(name(node.layer.proto) for node in net.nodes):
            found.setdefault(kind, []).append((text.parent, net))
    return found


def name(proto: LayerParameter) -> str:
    """The type of a layer as the layer table has it."""
    return f"{proto.python_param.module}.{proto.python_param.layer}" if proto.type == "Python" else proto.type


def layer_pages() -> Pages:
    pages = {f"layers/{kind}.md": layer_page(kind) for kind in layers.REGISTRY}
    parts = [
        "# Layers",
        "A page for each of the layer types of Caffe 1.0 that have a part in inference, and of those of its forks that "
        "published networks need. A type or a parameter that is not computed is refused by name, all of them at once, "
        "before a weight is read. [Layers of your own](../own-layers.md) are a class in a Python file.",
    ]
    for family, kinds in families().items():
        parts += [f"## {escaped(family)}", rows(["type", "what it computes"], [row(kind) for kind in kinds])]
    return {**pages, "layers/index.md": "\n\n".join(parts)}


def row(kind: str) -> list[str]:
    first = inspect.cleandoc(layers.REGISTRY[kind].__doc__ or "").split("\n\n")[0]
    return [f"[{kind}]({kind}.md)", escaped(" ".join(first.split()))]


def layer_page(kind: str) -> str:
    row = layers.REGISTRY[kind]
    others = [f"[{other}]({other}.md)" for other in row.types if other != kind]
    parts = [f"# {kind}", prose(row.__doc__ or "")]
    if others:
        parts.append(f"The same class computes {', '.join(others)}.")
    facts = [f"bottoms: {count(row.bottom_count)}", f"tops: {count(row.top_count)}"]
    facts += [f"axes of its first bottom: {row.rank}"] if row.rank is not None else []
    facts += ["its top may be its bottom"] if row.works_in_place else []
    facts += ["how many items its tops have is known at run time"] if row.counts_items else []
    parts.append("\n".join(f"- {fact}" for fact in facts))
    parts += ["## Parameters", *parameters(row)]
    cases = golden().get(kind, [])
    nodes = [(path, node) for path, net in cases for node in net.nodes if name(node.layer.proto) == kind]
    weighted = max((node for _, node in nodes if node.layer.blobs()), key=telling, default=None)
    if weighted is not None:
        given = ", ".join(shape(bottom) for bottom in weighted.layer.bottoms) or "none"
        lines = [[f"`{w.name}`", shape(w.shape), shape(w.keras_shape)] for w in weighted.layer.blobs()]
        table = rows(["weight", "shape in Caffe", "shape in Keras"], lines)
        parts += ["## Weights", f"For instance, where its bottoms are {given}:"]
        parts += [fenced(text_format.MessageToString(weighted.layer.proto), "proto"), table]
    mistakes = dict.fromkeys(words for _, node in nodes for words, _ in node.layer.mistakes())
    if mistakes:
        parts += [
            "## What converters get wrong",
            "On a layer that is wrong, `verify` tries these and names the one that",
        ]
        parts[-1] += " makes it right:\n\n" + "\n".join(f"- {escaped(words)}" for words in mistakes)
    if nodes and weighted is None:
        parts += ["## In a network text", fenced(text_format.MessageToString(nodes[0][1].layer.proto), "proto")]
    parts += ["## Proof", proof(cases), f"The class stands in `{row.__module__.replace('.', '/')}.py`."]
    return "\n\n".join(parts)


def telling(node: Node) -> tuple[int, bool]:
    """How much a layer shows of its type: one with all its weights more than one without a bias, one of pictures more than
    one of vectors."""
    return len(node.layer.blobs()), any(len(bottom) == 4 for bottom in node.layer.bottoms[:1])


def count(pair: tuple[int, int | None]) -> str:
    least, most = pair
    return str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"


def parameters(row: type[layers.Layer]) -> list[str]:
    """What a class takes, field by field, with Caffe's defaults; what has no effect; what is refused."""
    if row.param is None:
        return ["None."]
    field = LayerParameter.DESCRIPTOR.fields_by_name.get(row.param)
    message = field.message_type if field is not None else None
    lines = [[f"`{path}`", *described(message, path)] for path in sorted(row.fields)]
    parts = [f"In `{row.param}`:", rows(["field", "kind", "default"], lines)] if lines else [f"`{row.param}` is empty."]
    if message is not None:
        rest = [one.name for one in message.fields if not any(path.split(".")[0] == one.name for path in row.fields)]
        idle = [one for one in rest if one in layers.NO_EFFECT]
        refused = [one for one in rest if one not in layers.NO_EFFECT]
        for words, fields in (("Accepted without effect on inference", idle), ("Refused where it is set", refused)):
            if fields:
                parts.append(f"{words}: {', '.join(f'`{one}`' for one in fields)}.")
    return parts


_KINDS = {FieldDescriptor.TYPE_FLOAT: "float", FieldDescriptor.TYPE_BOOL: "bool", FieldDescriptor.TYPE_STRING: "str"}


def described(message: Descriptor | None, path: str) -> list[str]:
    """[kind, default] of a field of the schema, a path with dots; empty where the schema lacks it."""
    first, _, rest = path.partition(".")
    field = message.fields_by_name.get(first) if message is not None else None
    if field is None:
        return ["", ""]
    if rest:
        return described(field.message_type, rest)
    many = field.is_repeated
    if field.enum_type is not None:
        kind = " or ".join(value.name for value in field.enum_type.values)
        default = "" if many else field.enum_type.values_by_number[field.default_value].name
    elif field.message_type is not None:
        kind, default = field.message_type.name, ""
    else:
        kind = _KINDS.get(field.type, "int")
        default = f"{field.default_value:g}" if kind == "float" and not many else f"{field.default_value}".lower()
    return [f"list of {kind}" if many else kind, default if field.has_default_value else ""]


def proof(cases: list[tuple[Path, Net]]) -> str:
    words = {
        "layers": "every blob as Caffe 1.0 computed it, in `golden/layers`",
        "forks": "every blob as OpenCV 4.14 computed it, in `golden/forks`",
    }
    lines = []
    for part, told in words.items():
        names = [f"`{path.name}`" for path, _ in cases if path.parent.name == part]
        if names:
            lines.append(f"- {told}: {', '.join(sorted(names))}")
    if not lines:
        return "Its source's formula in float64 NumPy, in `tests/test_forks*.py`: no recorded results of it exist."
    return f"{len(cases)} golden networks hold it.\n\n" + "\n".join(lines)


# ------------------------------------------------------------------------------------------------ formats and calls


def format_pages() -> Pages:
    pages = {}
    for kind in formats.names():
        can = ["written"]
        read = kind == "caffemodel" or formats.readable(kind) or formats.runnable(kind)
        can += ["read, by every command that takes a model"] if read else []
        can += ["run as it is by `classify`"] if formats.runnable(kind) else []
        module = ast.parse((ROOT / "caffe2tf" / "formats" / f"{kind}.py").read_text(encoding="utf-8"))
        text = prose(ast.get_docstring(module) or "").replace(" (loads TensorFlow)", "")
        loads = "Writing it loads TensorFlow." if formats.talks(kind) else "Writing it loads no TensorFlow."
        title = kind if kind == formats.FOLDER else f".{kind}"
        pages[f"formats/{kind}.md"] = f"# {title}\n\n{text}\n\nIt can be {', '.join(can)}. {loads}"
    return pages


def api_page() -> str:
    """Every name that `caffe2tf/__init__.pyi` exports, from its docstring and its types."""
    stub = ast.parse((ROOT / "caffe2tf" / "__init__.pyi").read_text(encoding="utf-8"))
    names = [(node.module, node.names[0].name) for node in stub.body if isinstance(node, ast.ImportFrom)]
    parts = [
        "# Every call",
        "As editors see them: with types, and what `help()` prints. [Python](python.md) shows them used.",
    ]
    parts += [f"::: {module}.{name}" for module, name in sorted(names, key=lambda item: item[1])]
    return "\n\n".join(parts)


def notebook_pages() -> Pages:
    """The notebooks of examples/ as pages to read."""
    found = {}
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        parts = [
            text if kind == "markdown" else fenced(text.replace("%matplotlib inline\n", ""), "python")
            for text, kind in texts
        ]
        told = f"This page is the notebook `examples/{path.name}`, which runs without a download."
        found[f"examples/{path.stem}.md"] = "\n\n".join([parts[0], told, *parts[1:]])
    return found


# ------------------------------------------------------------------------------------------------ MkDocs


def pages() -> Pages:
    """{address: Markdown} of everything that is made from the code."""
    whole = {
        "changelog.md": ROOT / "CHANGELOG.md",
        "contributing.md": ROOT / "CONTRIBUTING.md",
        "security.md": ROOT / "SECURITY.md",
    }
    texts = {place: path.read_text(encoding="utf-8") for place, path in whole.items()}
    made = {**command_pages(), **layer_pages(), **format_pages(), **notebook_pages()}
    return {**made, "api.md": api_page(), **texts}


def nav() -> list[dict[str, Any]]:
    """What stands beside the pages of mkdocs.yml in the site's contents."""
    commands = [{command.name.partition(" ")[2] or "All": address(command.name)} for command in helps.commands()]
    by_family = [{family: [f"layers/{kind}.md" for kind in kinds]} for family, kinds in families().items()]
    project = {"Contributing": "contributing.md", "Security": "security.md", "Changes": "changelog.md"}
    return [
        {"Notebooks": list(notebook_pages())},
        {"Commands": ["commands/index.md", "command-line.md", *commands[1:]]},
        {"Layers": ["layers/index.md", "layers.md", *by_family]},
        {"Formats": ["formats.md", *(f"formats/{kind}.md" for kind in formats.names())]},
        {"Python": ["python.md", "api.md"]},
        {"Project": [{title: place} for title, place in project.items()]},
    ]


def on_config(config: Any) -> Any:
    config.nav = [*config.nav, *nav()]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    files.append(File.generated(config, "terminal.svg", abs_src_path=str(ROOT / "tests" / "terminal.svg")))
    return files
