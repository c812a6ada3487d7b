"""How shapes and sizes are said to people."""

from collections.abc import Iterable, Sequence


def shape(extents: Iterable[int | None]) -> str:
    """`2 x 3 x 4`, `?` for an extent that nothing tells, `scalar` for none."""
    return " x ".join("?" if extent is None else str(extent) for extent in extents) or "scalar"


def square(extents: Sequence[float] | None) -> str:
    """`11`, or `11 x 7` where they differ, of [height, width]; nothing of None."""
    if extents is None:
        return ""
    return f"{extents[0]:g}" if len(set(extents)) == 1 else " x ".join(f"{n:g}" for n in extents)


def size(count: float) -> str:
    """Bytes for people: `243.9 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
