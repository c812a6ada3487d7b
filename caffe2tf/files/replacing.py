"""Results appear whole or not at all, and nothing of the user's is replaced that was not named and made by us.

A result is written under a temporary name beside its place, `.NAME.HOST.PID.partN`, flushed to the disk, and takes its name in
one step of the system's: `rename` for a file, `renameat2(RENAME_NOREPLACE)` or `link` for one that must not replace,
`renameat2(RENAME_EXCHANGE)` for a folder. Where the system has no exchange (other than Linux, and some network file
systems), what was there first steps aside as `.NAME.HOST.PID.oldN`; a run that is killed between the two steps leaves it there,
and the next run that writes NAME gives it its name back. So it is with a checkpoint too, whose files no system can exchange
at once, unless the new files have names of their own: then its index is replaced last, in one step.

What a run that is gone left behind, `leftovers` tells, is removed by the next run that writes that name, and logged.
"""

import contextlib
import fnmatch
import itertools
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from caffe2tf.errors import OutputError
from caffe2tf.files import leftovers, renames

_numbers = itertools.count()


@dataclass(frozen=True)
class Kind:
    """What a result is: one file; `parts`, several files of one stem (a checkpoint: `.index` and `.data-*`); or a folder
    that holds `files` (patterns of relative paths) and, so that we know it as ours, the file `marker`. Without `flushed` it is
    not waited for the disk: it is quickly made again, and consists of so many files that this would take longest."""

    parts: bool = False
    marker: str = ""
    files: tuple[str, ...] = ()
    flushed: bool = True


FILE, PARTS = Kind(), Kind(parts=True)


def check(path: str | os.PathLike[str], force: bool, kind: Kind = FILE) -> tuple[str, str]:
    """(folder, name) of a target. Raises OutputError where the result could not take that name.

    The folder must exist and be writable. Without `force` nothing may be there; with it, a file for a file, or for a folder
    one that caffe2tf wrote and that holds nothing else; a link, a device, a pipe or a socket is never replaced.
    """
    folder, name = _split(path)
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: its folder does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: its folder is not writable")
    if not name:
        raise OutputError(f"{path}: is no name of a file")
    for entry in _entries(folder, name, kind):
        why = _unlike(os.path.join(folder, entry), kind)
        if why:
            raise OutputError(f"{path}: {why}")
        if kind.marker and (why := _not_ours(os.path.join(folder, entry), kind)):
            raise OutputError(f"{path}: {why}")
        if not force:
            raise OutputError(f"{path}: exists already; `force` replaces it")
    return folder, name


def _split(path: str | os.PathLike[str]) -> tuple[str, str]:
    """(folder, name) of a result, a folder's trailing slash aside."""
    return os.path.split(os.path.abspath(str(path).rstrip("/" + os.sep) or os.sep))


def _entries(folder: str, name: str, kind: Kind) -> list[str]:
    """The entries of `folder` that the result `name` consists of."""
    if kind.parts:
        return [entry for entry in os.listdir(folder) if _is_part(entry, name)]
    return [name] if os.path.lexists(os.path.join(folder, name)) else []


def _is_part(entry: str, name: str) -> bool:
    return entry.startswith(name + ".") and re.fullmatch(r"index|data-\d+-of-\d+", entry[len(name) + 1 :]) is not None


def _unlike(path: str, kind: Kind) -> str | None:
    """Why what is at `path` cannot become a result of `kind`, whatever the user says."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "is a symbolic link, which is not replaced; name the place that it points to"
    if stat.S_ISDIR(mode):
        return None if kind.marker else "is a folder, and the result is a file; name another place"
    if not stat.S_ISREG(mode):
        return "is a device, a pipe or a socket, which is not replaced; name a file"
    return "is a file, and the result is a folder; name another place" if kind.marker else None


def _not_ours(path: str, kind: Kind) -> str | None:
    """Why the folder `path` is not replaced; None for one that caffe2tf wrote, and for an empty one."""
    if not wrote(path, kind) and any(files for _, _, files in os.walk(path)):
        return (
            f"is a folder that caffe2tf did not write (it holds no {kind.marker}); move it away, or name another place"
        )
    name = stranger(path, kind)
    return name and f"holds {name}, which caffe2tf did not write; move it away, or name another place"


def stranger(path: str, kind: Kind) -> str | None:
    """The first file in the folder `path` that is not among those of `kind`; None where there is none."""
    found = [os.path.relpath(os.path.join(top, file), path) for top, _, files in os.walk(path) for file in files]
    known = (kind.marker, *kind.files)
    names = sorted(name.replace(os.sep, "/") for name in found)
    return next((name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)), None)


def wrote(path: str | os.PathLike[str], kind: Kind) -> bool:
    """Whether the folder `path` has caffe2tf's marker."""
    return os.path.isfile(os.path.join(path, *kind.marker.split("/")))


def size(path: str | os.PathLike[str]) -> int:
    """The bytes of a result: a file, a folder, or the parts of a checkpoint."""
    folder, name = _split(path)
    total = 0
    for entry in {*_entries(folder, name, FILE), *_entries(folder, name, PARTS)}:
        whole = os.path.join(folder, entry)
        parts = [os.path.join(top, file) for top, _, files in os.walk(whole) for file in files] or [whole]
        total += sum(os.path.getsize(part) for part in parts if os.path.isfile(part))
    return total


def shards(path: str | os.PathLike[str]) -> set[int]:
    """The counts of shards in the names of a checkpoint's data files: `x.ckpt.data-00002-of-00005` says 5."""
    folder, name = _split(path)
    parts = _entries(folder, name, PARTS) if os.path.isdir(folder) else []
    return {int(entry.rpartition("-")[2]) for entry in parts if not entry.endswith(".index")}


def write_text(path: str | os.PathLike[str], text: str, force: bool) -> None:
    """Writes a text file, whole or not at all, with `\n` at the ends of lines on every system; what is no text, of a file's name,
    as escapes. Raises OutputError."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), force)


def write_bytes(path: str | os.PathLike[str], data: bytes, force: bool) -> None:
    """Writes a file, whole or not at all. Raises OutputError."""
    with replacing(path, force) as temporary, open(temporary, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], force: bool, kind: Kind = FILE) -> Iterator[str]:
    """Gives a temporary name of the same suffix beside `path`: what the block writes there becomes `path` when it ends well;
    otherwise nothing is left. Raises OutputError, without `force` also where something came to be at `path` meanwhile."""
    folder, name = check(path, force, kind)
    number = next(_numbers)
    part, aside = (leftovers.marker(name, what, number) for what in ("part", "old"))
    leftovers.begin(part, aside)
    stem = part
    part += os.path.splitext(name)[1]
    try:
        with renames.alone(folder):
            leftovers.repair(folder, name)
        check(path, force, kind)  # what had stepped aside may be there again
        yield os.path.join(folder, part)
        for entry in leftovers.starting(folder, part) if kind.flushed else ():
            renames.flush(os.path.join(folder, entry))
        with renames.alone(folder):
            check(path, force, kind)
            try:
                if kind.parts:
                    _place_parts(folder, name, part, aside, force)
                else:
                    _place(folder, name, part, aside, force, kind)
            except FileExistsError:
                raise OutputError(f"{path}: exists already; `force` replaces it") from None
            finally:
                leftovers.restore(folder, name, aside)  # while no other run is between its own two steps
        renames.flush_folder(folder)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {renames.reason(error)}") from None
    except Exception as error:
        # TensorFlow's own errors are no OSError, and importing their class here would load it.
        if type(error).__module__.startswith("tensorflow."):
            raise OutputError(f"{path}: cannot be written: {renames.reason(error)}") from None
        raise
    finally:
        leftovers.end(stem, aside)
        for entry in leftovers.starting(folder, part):
            renames.remove(os.path.join(folder, entry))


def _place(folder: str, name: str, part: str, aside: str, force: bool, kind: Kind) -> None:
    """Gives the file or folder `part` its name; the folder that it replaces is `part` or `aside` afterwards."""
    made, target = os.path.join(folder, part), os.path.join(folder, name)
    if not force or not os.path.lexists(target):
        renames.rename_new(made, target)
    elif not kind.marker:
        os.replace(made, target)
    elif not renames.exchange(made, target):
        os.rename(target, os.path.join(folder, aside))
        os.rename(made, target)


def _place_parts(folder: str, name: str, part: str, aside: str, force: bool) -> None:
    """Gives the files of a checkpoint their names, its index last: without it there is no checkpoint."""
    names = {entry: name + entry[len(part) :] for entry in leftovers.starting(folder, part)}
    made = [(entry, new) for entry, new in names.items() if _is_part(new, name)]
    made.sort(key=lambda pair: pair[1].endswith(".index"))
    old = sorted(_entries(folder, name, PARTS) if force else [], key=lambda entry: not entry.endswith(".index"))
    index = name + ".index"
    common = {new for _, new in made} & set(old) - {index}
    if common:
        for entry in old:
            os.rename(os.path.join(folder, entry), os.path.join(folder, aside + entry[len(name) :]))
        old = []
    done: list[str] = []
    try:
        for entry, new in made:
            whole = os.path.join(folder, new)
            if new == index and new in old:
                os.replace(os.path.join(folder, entry), whole)
            else:
                renames.rename_new(os.path.join(folder, entry), whole)
            done.append(whole)
    except BaseException:
        for whole in done:
            renames.remove(whole)
        raise
    for entry in old:
        if os.path.join(folder, entry) not in done:
            renames.remove(os.path.join(folder, entry))
