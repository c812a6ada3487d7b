"""Which blobs lie in one memory: what changes one of them in place changes all."""


class Memory:
    """Flatten, Reshape, Split, a Slice into one and a Concat of one share their bottom's memory (Blob::ShareData in each
    layer's .cpp), and Caffe reads what was written last, under whatever name."""

    def __init__(self) -> None:
        self._cells: dict[str, set[str]] = {}  # blob -> the set of blobs in its memory

    def make(self, top: str, other: str | None = None) -> None:
        """A blob of its own, or in the memory of `other`."""
        cell: set[str] = self._cells[other] if other is not None else set()
        cell.add(top)
        self._cells[top] = cell

    def beside(self, blob: str) -> list[str]:
        """The other blobs in its memory."""
        return sorted(self._cells[blob] - {blob})
