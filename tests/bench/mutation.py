"""Are the tests awake? `python -m tests.bench.mutation --sample 60 --seed 1 [ROOM ...]`

Changes one place of a function at a time, and runs the tests that come by: a mutant is killed where one of them fails, or where
it takes time or memory without end. Each room's mutants are drawn by chance; the same seed draws the same. Prints what survived as
rows of `tests/mutation_survivors.md`, and each room's score: what was killed, of all that was tried but the changes that this list
calls none. The exit code is 1 where a score is below 85 %. Each mutant is a fork that starts with everything imported, so that most
take less than a second.

What is changed: comparisons, arithmetic, and, or, not, numbers, texts, truths, conditions, keywords; what is returned, assigned,
called or raised; break and continue. The words of errors stay, as do annotations, defaults, and what modules and classes say
outside of functions.
"""

import argparse
import ast
import gc
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import types
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import pytest
from _pytest.runner import runtestprotocol

from tests.helpers import PACKAGE, ROOT

_CPU = 10  # seconds that a test may compute beside five times its own
_MEMORY = 6 << 30  # bytes that a mutant may address
_LEAST = 0.85  # of the mutants that are a change, those to be killed
_NONE = 3  # how a process ends that finds nothing to change
_COLUMNS = ("room", "mutants", "tried", "killed", "no change", "survived", "score")
SURVIVORS = ROOT / "tests" / "mutation_survivors.md"


@dataclass(frozen=True)
class Room:
    """`sources` below the package whose functions are changed, and the `tests` that shall notice."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "read": Room(
        ("caffe/read.py", "caffe/prototxt.py", "caffe/wire.py", "caffe/messages.py"),
        ("read", "wire", "prototxt", "upgrade", "weights", "net", "accept", "plugins"),
    ),
    "upgrade": Room(
        ("caffe/upgrade.py", "caffe/legacy.py", "caffe/datalayers.py", "caffe/purposes.py"),
        ("upgrade", "read", "purposes", "net", "accept"),
    ),
    "wiring": Room(
        ("net/*.py",),
        (
            "net",
            "weights",
            "rules",
            "fillers",
            "folding",
            "outputs",
            "names",
            "record",
            "accept",
            "upgrade",
            "api",
            "plugins",
        ),
    ),
    "layers": Room(
        ("layers/*.py",),
        (
            "net",
            "refusals",
            "said",
            "rules",
            "golden",
            "fillers",
            "reference_rules",
            "detection",
            "forks",
            "forks_boxes",
            "forks_places",
            "forks_sampling",
            "forks_values",
            "plugins",
        ),
    ),
    "layout": Room(("arrays/*.py",), ("layout", "damage", "weights", "read", "numbers", "attacks/test_weights")),
    "formats": Room(
        ("formats/*.py",),
        (
            "formats",
            "damage",
            "weights",
            "runners",
            "containers",
            "onnx",
            "models_here",
            "attacks/test_weights",
            "attacks/test_others",
        ),
    ),
    # Without opencv_worker.py, which runs in processes of its own: no fork of this one changes it.
    "comparison": Room(
        ("verification/[!o]*.py", "verification/opencv.py", "verification/otherwise.py"),
        ("reports", "verification", "judges", "feeding", "damage", "models_here", "record"),
    ),
}


# ------------------------------------------------------------------------------------------------ mutants

_PAIRS = (
    *(
        (ast.Lt, ast.LtE),
        (ast.Gt, ast.GtE),
        (ast.Eq, ast.NotEq),
        (ast.In, ast.NotIn),
        (ast.Is, ast.IsNot),
        (ast.And, ast.Or),
    ),
    *((ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv), (ast.BitAnd, ast.BitOr), (ast.LShift, ast.RShift)),
)
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{a: b for pair in _PAIRS for a, b in (pair, pair[::-1])},
    **dict.fromkeys((ast.Div, ast.Pow, ast.MatMult), ast.Mult),
    ast.Mod: ast.FloorDiv,
}


@dataclass(frozen=True)
class Mutant:
    """The module at `path` with other `text`; the function that has changed begins in line `start`, the change is in `line`:
    `before` and `after` are the whole lines there, without their blanks."""

    path: Path
    function: str
    start: int
    line: int
    before: str
    after: str
    text: str = field(repr=False)

    def row(self) -> tuple[str, str, str]:
        """Where it is and what it changes, as `listed` gives it."""
        return f"{self.path.relative_to(PACKAGE)} {self.function}", self.before, self.after

    def is_listed(self, rows: Container[tuple[str, str, str]]) -> bool:
        place, before, after = self.row()
        return (place, before, after) in rows or (place, before, "...") in rows


def listed() -> dict[tuple[str, str, str], str]:
    """{(place, before, after): why}: the changes of `mutation_survivors.md` that change nothing; `...` is any change of a line."""
    rows = (re.split(r"(?<!\\)\|", line)[1:-1] for line in SURVIVORS.read_text().splitlines() if line.startswith("| `"))
    cells = ([cell.strip().replace("\\|", "|") for cell in row] for row in rows)
    return {(place[1:-1], before[1:-1], after[1:-1]): why for place, before, after, why in cells}


def _as_row(mutant: Mutant) -> str:
    return "| " + " | ".join(f"`{cell}`".replace("|", "\\|") for cell in mutant.row()) + " | |"


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of `node`."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SWAPS:
        yield ast.Compare(node.left, [_SWAPS[type(node.ops[0])]()], node.comparators)  # type: ignore[list-item]
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(_SWAPS[type(node.op)](), node.values)  # type: ignore[arg-type]
    elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPS:
        yield ast.BinOp(node.left, _SWAPS[type(node.op)](), node.right)  # type: ignore[arg-type]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        yield ast.Constant(node.value + (b"XX" if isinstance(node.value, bytes) else "XX"))
    elif isinstance(node, ast.Call):
        for place in range(len(node.keywords)):
            if node.keywords[place].arg != "strict":  # of zip: where it is true it is a guard
                yield ast.Call(node.func, node.args, node.keywords[:place] + node.keywords[place + 1 :])
    elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None", "return False"):
        yield ast.Return(None)
    elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant) and len(node.targets) == 1:
        if isinstance(node.targets[0], ast.Name):
            yield ast.Assign(node.targets, ast.Constant(None), lineno=node.lineno)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _SWAPS:
        yield ast.AugAssign(node.target, _SWAPS[type(node.op)](), node.value)  # type: ignore[arg-type]
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()


def _places(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's body that may change."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        if isinstance(node, ast.Raise | ast.JoinedStr):
            continue  # words for people
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _places(child)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions of a module and of its classes; what stands within one is a part of it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node)


def mutants(path: Path) -> list[Mutant]:
    source = path.read_bytes()
    starts, found = [0], []
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function in _functions(ast.parse(source)):
        first = min([function.lineno, *(item.lineno for item in function.decorator_list)])
        for node in (place for statement in function.body for place in _places(statement)):
            for other in _changed(node):
                begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
                end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
                words = ast.unparse(other)
                words = words if isinstance(other, ast.stmt) else f"({words})"
                text = (source[:begin] + words.encode() + source[end:]).decode()
                top, bottom = starts[node.lineno - 1], starts[node.end_lineno]  # type: ignore[attr-defined]
                before = " ".join(source[top:bottom].decode().split())
                after = " ".join((source[top:begin] + words.encode() + source[end:bottom]).decode().split())
                found.append(Mutant(path, function.name, first, node.lineno, before, after, text))  # type: ignore[attr-defined]
    return found


def _code(code: types.CodeType, name: str, start: int) -> types.CodeType | None:
    if code.co_name == name and code.co_firstlineno == start:
        return code
    inner = (_code(item, name, start) for item in code.co_consts if isinstance(item, types.CodeType))
    return next((item for item in inner if item is not None), None)


def put(mutant: Mutant) -> bool:
    """Gives the function, wherever it is known already, its other code; False where that cannot be."""
    code = _code(compile(mutant.text, str(mutant.path), "exec", dont_inherit=True), mutant.function, mutant.start)
    here = [
        item
        for item in gc.get_objects()
        if isinstance(item, types.FunctionType)
        and (item.__code__.co_firstlineno, item.__code__.co_name) == (mutant.start, mutant.function)
        and item.__code__.co_filename == str(mutant.path)
    ]
    if code is None or not here or any(item.__code__.co_freevars != code.co_freevars for item in here):
        return False
    for item in here:
        item.__code__ = code
    return True


# ------------------------------------------------------------------------------------------------ tests


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _first_that_fails(items: Sequence[tuple[float, pytest.Item]]) -> int | None:
    """The place of the first of the tests [(its seconds, the test)] that fails; one that takes too long ends the process."""
    for place, (seconds, item) in enumerate(items):
        most = int(_CPU + 5 * seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + most, resource.RLIM_INFINITY))
        signal.alarm(5 * most)  # where it sleeps
        following = items[place + 1][1] if place + 1 < len(items) else None
        if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
            return place
    return None


class _Judge:
    """Runs in pytest's place, once its tests are collected."""

    def __init__(self, name: str, sample: int, seed: int) -> None:
        self.room, self.name, self.survivors, self.listed = ROOMS[name], name, list[Mutant](), listed()
        self.sources = sorted({path for pattern in self.room.sources for path in PACKAGE.glob(pattern)})
        chance = random.Random(f"{seed} {name}")
        every = [mutant for path in self.sources for mutant in mutants(path)]
        self.many, self.drawn = len(every), chance.sample(every, len(every))
        self.sample, self.killed, self.tried, self.equal = sample, 0, 0, 0
        self.sound = set[int]()  # tests that pass alone, where nothing is changed

    @property
    def score(self) -> float:
        return self.killed / max(1, self.tried - self.equal)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        seen = self._seen(session.items)
        for mutant in self.drawn:
            if self.tried == self.sample:
                break
            started = time.monotonic()
            found = self._judged(mutant, session.items, seen)
            if found is None:
                continue
            (killed, near), known = found, mutant.is_listed(self.listed)
            self.tried += 1
            self.killed += killed
            self.equal += known and not killed
            if not killed and not known:
                self.survivors.append(mutant)
            told = "killed" if killed else "is no change" if known else "SURVIVED"
            told += ", though it is listed" if killed and known else ""
            place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
            print(f"{place} {told}, {near} tests, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            if not killed and not known:
                print(f"  {mutant.before}\n  {mutant.after}", file=sys.stderr, flush=True)
        return True

    def _judged(
        self, mutant: Mutant, items: list[pytest.Item], seen: dict[int, tuple[float, dict[str, set[int]]]]
    ) -> tuple[bool, int] | None:
        """(whether it is killed, how many tests come by); None where it is no mutant. A test that fails is asked once whether it
        passes alone without the mutant; one that does not is not asked again."""
        while True:
            near = sorted(
                (seconds, place) for place, (seconds, lines) in seen.items() if mutant.line in lines[str(mutant.path)]
            )
            code, failed = self._try(mutant, [(seconds, items[place]) for seconds, place in near])
            if code == _NONE:
                return None
            killer = near[failed][1] if failed is not None else None
            if killer is None or killer in self.sound or self._try(None, [(seen[killer][0], items[killer])])[0] == 0:
                self.sound |= {killer} if killer is not None else set()
                return code != 0, len(near)
            print(f"{items[killer].nodeid} fails by itself", file=sys.stderr, flush=True)
            del seen[killer]

    def _seen(self, items: list[pytest.Item]) -> dict[int, tuple[float, dict[str, set[int]]]]:
        """{place of a test that passes: (its seconds, {source: lines that it comes by})}, found by a fork."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "seen"
            if (child := os.fork()) == 0:
                _quiet()
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY,) * 2)
                found = {}
                for place, item in enumerate(items):
                    counter = coverage.Coverage(
                        data_file=None, include=[str(path) for path in self.sources], config_file=False
                    )
                    following = items[place + 1] if place + 1 < len(items) else None
                    start = time.monotonic()
                    with counter.collect():
                        good = not any(report.failed for report in runtestprotocol(item, nextitem=following, log=False))
                    data = counter.get_data()
                    lines = {name: data.lines(name) or [] for name in data.measured_files()}
                    if good:
                        found[place] = time.monotonic() - start, lines
                report.write_text(json.dumps(found))
                os._exit(0)
            os.waitpid(child, 0)
            known = {str(path): set[int]() for path in self.sources}
            return {
                int(place): (seconds, known | {name: {*numbers} for name, numbers in lines.items()})
                for place, (seconds, lines) in json.loads(report.read_text()).items()
            }

    def _try(self, mutant: Mutant | None, items: Sequence[tuple[float, pytest.Item]]) -> tuple[int, int | None]:
        """(0 where every test passes with the mutant, _NONE where it is none, else anything; the place of the test that fails,
        None where the process ends otherwise)."""
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reader)
            _quiet()
            code = _NONE
            try:
                if mutant is None or put(mutant):
                    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY,) * 2)
                    failed = _first_that_fails(items)
                    code = 0 if failed is None else 1
                    os.write(writer, b"" if failed is None else str(failed).encode())
            except BaseException:
                code = 1
            os._exit(code)
        os.close(writer)
        ended = os.waitpid(child, 0)
        os.set_blocking(reader, False)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read() or b""  # None where a process that a test left still holds the other end
        return os.waitstatus_to_exitcode(ended[1]), int(said) if said else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; all by default")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    judges: list[_Judge] = []
    for name in given.rooms or ROOMS:
        judge = _Judge(name, given.sample, given.seed)
        files = [
            str(ROOT / "tests" / (f"{test}.py" if "/" in test else f"test_{test}.py")) for test in judge.room.tests
        ]
        pytest.main(["-n", "0", "-q", "-q", "-s", "-p", "no:cacheprovider", *files], plugins=[judge])
        judges.append(judge)
        print("\n".join(map(_as_row, judge.survivors)), flush=True)
    print("{:<12}{:>8}{:>8}{:>8}{:>11}{:>10}{:>8}".format(*_COLUMNS))
    for judge in judges:
        counts = judge.many, judge.tried, judge.killed, judge.equal, len(judge.survivors)
        print("{:<12}{:>8}{:>8}{:>8}{:>11}{:>10}{:>8.0%}".format(judge.name, *counts, judge.score))
    low = [judge.name for judge in judges if judge.score < _LEAST]
    if low:
        print(f"below {_LEAST:.0%}: {', '.join(low)}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
