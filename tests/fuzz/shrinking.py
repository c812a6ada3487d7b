"""The smallest file that still escapes in the same way."""

from collections.abc import Callable

from tests.fuzz.judging import Files


def shrunk(files: Files, escapes: Callable[[Files], bool], tries: int = 400) -> dict[str, bytes]:
    """`files` with as much cut away as `tries` calls of `escapes` find to be unneeded."""
    best = dict(files)

    def better(name: str, data: bytes) -> bool:
        nonlocal tries
        tries -= 1
        if tries < 0 or not escapes({**best, name: data}):
            return False
        best[name] = data
        return True

    for name in sorted(best, key=lambda name: -len(best[name])):
        length = len(best[name]) // 2
        while length:
            at = 0
            while at < len(best[name]) and tries > 0:
                if not better(name, best[name][:at] + best[name][at + length :]):
                    at += length
            length //= 2
    return best
