"""How many network texts of the world are read: `python -m tests.bench.survey DIR [--opencv] [--list]`.

DIR is a folder of network texts (`.prototxt`), or a .tar or .tar.xz of one. A text counts as loading where `caffe2tf.load`
takes it, and as needing only an input shape where it takes it with the shape that its own refusal names. With `--opencv`
every such text is run with seeded weights through cv2.dnn as well, and those beyond 1e-4 of the largest value are listed
with the first layer that differs. `--list` prints every text that stays refused, with why.
"""

import argparse
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import caffe2tf
from caffe2tf.net.net import Net
from tests.bench import survey_opencv

_LARGEST = 4 << 20  # bytes of a text; the longest network texts are below one MiB
_MOST = 10_000
_VERDICTS = ("loads", "needs only an input shape", "refused by type", "does not parse", "fails as net")
_TRAINING = re.compile(r"train|solver", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """One text: its `file`, its repository as far as the file's name (owner+name__path) tells it, and what became of it: one
    of _VERDICTS, one reason for each layer, and the Net where there is one."""

    file: str
    repository: str
    verdict: str
    reasons: tuple[str, ...] = ()
    net: Net | None = None

    @property
    def deploys(self) -> bool:
        """Whether it is a text for inference, told by its name."""
        return not _TRAINING.search(self.file.rpartition("__")[2])

    @property
    def read(self) -> bool:
        return self.verdict in _VERDICTS[:2]


@contextmanager
def folder(path: str) -> Iterator[str]:
    """The folder of the texts at `path`, unpacked for as long as it is used where that is an archive. Of an archive only plain
    files of a reasonable size are taken, each by the last part of its name."""
    if os.path.isdir(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as into, tarfile.open(path) as archive:
        for count, member in enumerate(archive):
            if count >= _MOST:
                break
            name = os.path.basename(member.name)
            source = archive.extractfile(member) if member.isreg() and member.size <= _LARGEST else None
            if source is not None and name.endswith(".prototxt"):
                with open(os.path.join(into, name), "wb") as file:
                    file.write(source.read())
        yield into


def read(path: str) -> Text:
    """What becomes of the text at `path`."""
    file = os.path.basename(path)
    repository = file.partition("__")[0].replace("+", "/", 1)

    def said(error: Exception) -> tuple[str, ...]:
        lines = [line for line in str(error).splitlines() if not line.startswith("still to be had")]
        return tuple(line.replace(f"{os.path.dirname(path)}/", "") for line in lines)

    try:
        return Text(file, repository, "loads", net=caffe2tf.load(path))
    except caffe2tf.errors.ShapeNeeded as error:
        try:
            return Text(file, repository, _VERDICTS[1], said(error), caffe2tf.load(path, input_shape=error.likely))
        except caffe2tf.Caffe2TFError as other:
            return Text(file, repository, "fails as net", said(other))
    except caffe2tf.errors.UnsupportedLayer as error:
        return Text(file, repository, "refused by type", said(error))
    except caffe2tf.errors.ParseError as error:
        return Text(file, repository, "does not parse", said(error))
    except caffe2tf.Caffe2TFError as error:
        return Text(file, repository, "fails as net", said(error))


def survey(path: str) -> list[Text]:
    """Every text of the folder `path`, in the order of their names."""
    return [read(os.path.join(path, name)) for name in sorted(os.listdir(path)) if name.endswith(".prototxt")]


def share(texts: Sequence[Text]) -> float:
    """The part of `texts` that loads or needs only an input shape."""
    return sum(text.read for text in texts) / max(1, len(texts))


def kind(reason: str) -> str:
    """What `reason` is about, without the names that only its text has."""
    unknown = re.search(r"type '([^']*)'(?: of '([^']*)')? is not supported", reason)
    if unknown:
        return f"type {' '.join(filter(None, unknown.groups()))}"
    reason = re.sub(r"^\S+\.prototxt:(\d+: )?", "", reason)
    reason = re.sub(r"^layer '[^']*' \((\w+)\)", r"\1", reason)
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'", "'...'", reason))[:100]


def _few(reasons: Sequence[str]) -> list[str]:
    """One reason of each kind."""
    return list({kind(reason): reason for reason in reversed(reasons)}.values())[::-1]


def table(texts: Sequence[Text]) -> list[str]:
    """The counts of all texts and of those for inference, the share that is read, and the reasons of the others by count."""
    deploys = [text for text in texts if text.deploys]
    lines = [f"{'':28}{'all':>8}{'deploy, test':>14}", f"{'texts':28}{len(texts):8}{len(deploys):14}"]
    for verdict in _VERDICTS:
        counts = [sum(text.verdict == verdict for text in some) for some in (texts, deploys)]
        lines.append(f"{verdict:28}{counts[0]:8}{counts[1]:14}")
    lines.append(f"{'the first two':28}{share(texts):8.1%}{share(deploys):14.1%}")
    found: dict[str, list[Text]] = {}
    for text in texts:
        for reason in () if text.read else {kind(line) for line in text.reasons}:
            found.setdefault(reason, []).append(text)
    lines += ["", f"{'texts':>6}{'alone':>7}{'repositories':>14}  reason"]
    for reason, some in sorted(found.items(), key=lambda item: -len(item[1])):
        alone = sum({kind(line) for line in text.reasons} == {reason} for text in some)
        lines.append(f"{len(some):6}{alone:7}{len({text.repository for text in some}):14}  {reason}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="How many network texts are read.")
    parser.add_argument("path", metavar="DIR")
    parser.add_argument("--opencv", action="store_true", help="compare the outputs with cv2.dnn")
    parser.add_argument("--list", action="store_true", help="print every text that is refused")
    args = parser.parse_args()
    with folder(args.path) as path:
        texts = survey(path)
        print("\n".join(table(texts)))
        if args.list:
            print("\n".join(f"{text.file}: {line}" for text in texts if not text.read for line in _few(text.reasons)))
        if args.opencv:
            survey_opencv.compare((text.file, text.net) for text in texts if text.net is not None)


if __name__ == "__main__":
    main()
