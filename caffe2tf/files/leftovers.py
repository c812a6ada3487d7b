"""What runs that died left beside a result, told by their names: `.NAME.HOST.PID.partN`, half-written, and `.NAME.HOST.PID.oldN`,
what had stepped aside.

The number of a process says whether it still runs on this machine alone, so what a run on another one left, in a folder
that several share, is named and stays.
"""

import logging
import os
import platform
import re
import threading

from caffe2tf.files import renames

_LOG = logging.getLogger("caffe2tf.files")
_LONGEST = 20  # of a host in a marker, which a long name of a result leaves room for
_active: set[str] = set()
_lock = threading.Lock()


def host() -> str:
    """The name of this machine, fit for a file's name: of a long one the start and a digest."""
    name = platform.node()
    clean = re.sub(r"[^A-Za-z0-9-]", "-", name) or "-"
    if clean == name and len(name) <= _LONGEST:
        return clean
    import hashlib  # OpenSSL takes longer to load than most results to write

    return f"{clean[: _LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def marker(name: str, what: str, number: int) -> str:
    """The temporary name, `what` ("part" or "old"), of this process's result `name`."""
    return f".{name}.{host()}.{os.getpid()}.{what}{number}"


def begin(*markers: str) -> None:
    """These are in use by this process, on any of its threads, until `end`."""
    with _lock:
        _active.update(markers)


def end(*markers: str) -> None:
    with _lock:
        _active.difference_update(markers)


def repair(folder: str, name: str) -> None:
    """Removes what runs that are gone left of the result `name`, and logs it; what had stepped aside for one gets its name
    back."""
    pattern = re.compile(re.escape(f".{name}.") + r"([A-Za-z0-9-]+)\.(\d+)\.(part|old)\d+")
    removed, strange = list[str](), list[str]()
    for entry in sorted(os.listdir(folder)):
        match = pattern.match(entry)
        if match is None or match[0] in _active:
            continue
        if match[1] != host():
            strange.append(entry)
        elif _runs(int(match[2])):
            continue
        elif match[3] == "old" and restore(folder, name, match[0]):
            _LOG.warning("%s: is back; a run that was killed had put it aside", os.path.join(folder, name))
        else:
            renames.remove(os.path.join(folder, entry))
            removed.append(entry)
    where = os.path.join(folder, name)
    if removed:
        _LOG.warning("%s: removed what a run that was killed left there: %s", where, ", ".join(removed))
    if strange:
        text = "%s: another machine writes it, or a run there was killed, and left %s; remove it if none runs"
        _LOG.warning(text, where, ", ".join(strange))


def restore(folder: str, name: str, aside: str) -> bool:
    """Gives what stepped aside its name back, or removes it where a new result has that name; returns whether it is back."""
    left = sorted(starting(folder, aside), key=lambda entry: entry.endswith(".index"))
    parts = any(entry != aside for entry in left)
    taken = os.path.lexists(os.path.join(folder, name + (".index" if parts else "")))
    for entry in left:
        if taken:
            renames.remove(os.path.join(folder, entry))
        else:
            os.replace(os.path.join(folder, entry), os.path.join(folder, name + entry[len(aside) :]))
    return bool(left) and not taken


def _runs(process: int) -> bool:
    """Whether another process of that number runs."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def starting(folder: str, start: str) -> list[str]:
    """The entry `start`, and those that go on from it with what is no digit."""
    rest = len(start)
    return [e for e in os.listdir(folder) if e.startswith(start) and not e[rest : rest + 1].isdigit()]
