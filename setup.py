"""What setup.cfg cannot say: the man pages, made from the commands' help at every build."""

import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent

man = runpy.run_path(str(ROOT / "docs" / "man.py"))
folder = ROOT / "build" / "man"
pages = man["write"](folder)
setup(data_files=[("share/man/man1", sorted(Path(page).relative_to(ROOT).as_posix() for page in pages))])
