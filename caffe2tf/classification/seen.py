"""What a classifier says of one picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """What was seen in the picture `file`: `top` holds (class, name, probability), best first; `label` the (class,
    name) that it really is, or None. `note` says what was left out of it; `error` why it could not be read, and then
    `top` is empty."""

    file: str
    top: tuple[tuple[int, str, float], ...] = ()
    label: tuple[int, str] | None = None
    note: str | None = None
    error: str | None = None

    @property
    def right(self) -> bool | None:
        """Whether the best class is the label; None where nothing tells."""
        return self.top[0][0] == self.label[0] if self.top and self.label else None
