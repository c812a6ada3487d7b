"""What the system can do with names of files in one step, and what each costs where it cannot; and what the disk has of files."""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

_TURN = 0.05  # seconds between two looks at what the disk still lacks: less than what it takes in them is not worth a thread's time
_NOREPLACE, _EXCHANGE, _HERE = 1, 2, -100  # RENAME_NOREPLACE, RENAME_EXCHANGE, AT_FDCWD


def exchange(one: str, other: str) -> bool:
    """Swaps two names in one step; False where the system cannot."""
    return _renameat2(one, other, _EXCHANGE)


def rename_new(made: str, target: str) -> None:
    """Renames; raises FileExistsError where something is there."""
    if _renameat2(made, target, _NOREPLACE):
        return
    if not os.path.isdir(made):
        with contextlib.suppress(AttributeError, PermissionError, NotImplementedError):
            try:
                os.link(made, target)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL):
                    raise
            else:
                os.unlink(made)
                return
    if os.path.lexists(target):  # a file system without links, where no step is both
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(made, target)


def _renameat2(old: str, new: str, flag: int) -> bool:
    """Whether the system did it; False where it does not know how."""
    call = _system_call()
    if call is None:
        return False
    if call(_HERE, os.fsencode(old), _HERE, os.fsencode(new), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number))


def _system_call() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Keeps other runs of ours from renaming in `folder`, where the system can lock a folder."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def held(path: str) -> Iterator[bool]:
    """Whether this process alone has the file `path` until the end of the block; it is made, and goes where it was had. True
    where the system cannot lock."""
    try:
        import fcntl
    except ImportError:
        yield True
        return
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                pass
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                try:
                    yield True
                finally:
                    remove(path)
                return
        finally:
            os.close(handle)


def flush(path: str) -> None:
    """Waits until a file, or a folder with all in it, is on the disk."""
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            for entry in entries:
                flush(entry.path)
        flush_folder(path)
        return
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def flushing(handle: int) -> Iterator[None]:
    """Has the disk take what the block writes into the open file `handle` while it still writes, so that `flush` has little left to
    wait for. Raises OSError where the disk refused some of it, which no later `flush` would be told."""
    done, refused = threading.Event(), list[OSError]()

    def work() -> None:
        try:
            while not done.wait(_TURN):
                os.fsync(handle)
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=work, name="caffe2tf-flushing")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if refused:
        raise refused[0]


def flush_folder(path: str) -> None:
    """Waits until the names in a folder are on the disk, where the system can flush a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def reason(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
        return "the disk is full"
    return (getattr(error, "strerror", None) or str(error).splitlines()[0]).lower()


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
