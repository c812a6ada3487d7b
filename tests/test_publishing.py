"""What the project shows to the services around it: workflows, templates, citation, packages, man pages."""

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml

import caffe2tf
from caffe2tf.cli.main import main
from tests.helpers import PACKAGE, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SETUP = configparser.ConfigParser(inline_comment_prefixes=None)
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path):
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def requirements(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_is_there(path):
    """Scripts that exist, commands of the README and of .ci/run, extras that setup.cfg has; actions by a version."""
    told = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    told = told.replace("pip install -q", "pip install")
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"]), step
            continue
        line = step["run"]
        for script in re.findall(r"\.ci/\w+", line):
            assert (ROOT / script).stat().st_mode & 0o111, script
        for extra in re.findall(r"\[(\w+)\]", line):
            assert extra in SETUP["options.extras_require"]
        if line.startswith(("pip install '", "pytest", "mkdocs")):
            assert line in told, line


def test_workflows_cover_every_python_and_system():
    job = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["systems"]
    named = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    assert job["strategy"]["matrix"]["python"] == named
    assert {name.split("-")[0] for name in job["strategy"]["matrix"]["system"]} == {"ubuntu", "macos", "windows"}


def test_templates_ask_for_what_inspect_prints():
    for name in ("bug", "layer"):
        form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
        assert form["name"]
        (asked,) = [item for item in form["body"] if item["id"] == "inspect"]
        assert "caffe2tf inspect deploy.prototxt net.caffemodel --json" in asked["attributes"]["description"]
    assert "as_json" in {param.name for param in main.commands["inspect"].params}


def test_the_citation_is_of_this_version():
    cited = read(ROOT / "CITATION.cff")
    assert cited["version"] == caffe2tf.__version__
    assert cited["license"] == SETUP["metadata"]["license"]
    assert cited["authors"]


def test_hooks_before_a_commit_are_commands_of_ci():
    told = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for hook in read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        assert hook["entry"].removesuffix(" --fix") in told


def test_what_builds_the_man_pages_is_what_is_installed():
    needed = re.search(r"^requires = \[(.*)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    installed = requirements(SETUP["options"]["install_requires"])
    assert set(re.findall(r'"([^"]+)"', needed)) - set(installed) == {"setuptools>=68"}


MAKE = """
import sys
allowed = {"click", "colorama", "numpy", "google", "typing_extensions"}
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed | set(sys.stdlib_module_names) | {"caffe2tf", "helps"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
sys.path.insert(0, sys.argv[1])
sys.argv = ["man.py", sys.argv[2]]
import runpy
runpy.run_path(sys.path[0] + "/docs/man.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def man(tmp_path_factory):
    """The man pages, made where nothing but what pyproject.toml names can be imported."""
    place = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, "-c", MAKE, str(ROOT), str(place)], check=True, capture_output=True)
    return {path.name: path.read_text(encoding="utf-8") for path in place.iterdir()}


def test_every_command_has_a_man_page(man):
    inner = {f"caffe2tf-visualize-{name}.1" for name in main.commands["visualize"].commands}
    assert set(man) == {"caffe2tf.1", *(f"caffe2tf-{name}.1" for name in main.commands)} | inner
    for name, command in main.commands.items():
        page = man[f"caffe2tf-{name}.1"].replace(r"\-", "-")
        assert page.startswith(f'.TH "CAFFE2TF-{name.upper()}" "1"')
        assert all(param.opts[-1] in page for param in command.params if param.opts[-1].startswith("--"))


def test_no_line_of_a_man_page_is_taken_for_a_request(man):
    known = {".TH", ".SH", ".PP", ".TP", ".nf", ".fi"}
    for name, page in man.items():
        for line in page.splitlines():
            assert not line.startswith("'"), (name, line)
            assert not line.startswith(".") or line.split()[0] in known, (name, line)
            for escape in re.findall(r"\\(.{1,3})", line):
                assert re.match(r"e|-|&|fB|fR|\((aq|ha|ti)", escape), (name, line)


@pytest.mark.network
def test_sdist_and_wheel_hold_what_they_must(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    inside = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.py")} <= set(inside)
    assert sum(name.endswith(".1") and "/share/man/man1/" in name for name in inside) == len(
        list(ROOT.glob("build/man/*.1"))
    )
    assert not [name for name in inside if name.startswith(("tests/", "docs/", "proto/"))]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {name for name in tracked if name != ".gitignore"} <= source
