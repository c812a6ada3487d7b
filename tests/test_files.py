"""Results appear whole or not at all, whenever the process dies; what is the user's stays."""

import errno
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from caffe2tf import formats
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.files import leftovers, mapped, renames
from caffe2tf.files import replacing as files
from tests.helpers import GOLDEN, ROOT, inputs, layer, load, make, run

NET = GOLDEN / "layers" / "conv_basic"
CONVERT = ("convert", NET / "net.caffemodel", "-p", NET / "net.prototxt", "-q")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FOLDER = files.Kind(marker="mark/ours.json", files=("data", "deep/*"))


def put(path, words):
    """A result of the kind that `path` says: a file, a folder `x/`, the parts of `x.ckpt`."""
    if str(path).endswith(".ckpt"):
        for suffix in (".index", ".data-00000-of-00001"):
            with open(str(path) + suffix, "w") as file:
                file.write(words)
    elif "folder" in str(path):
        os.makedirs(f"{path}/mark")
        for name in ("mark/ours.json", "data"):
            with open(f"{path}/{name}", "w") as file:
                file.write(words)
    else:
        with open(path, "w") as file:
            file.write(words)


def got(path):
    """The words of a result, which must be of one writing; None where it is not there."""
    names = [path + "/data", path + "/mark/ours.json"] if "folder" in path else [path]
    if path.endswith(".ckpt"):
        names = [path + ".index", path + ".data-00000-of-00001"]
    if not os.path.lexists(names[0]):
        return None
    found = set()
    for name in names:
        with open(name) as file:
            found.add(file.read())
    (words,) = found
    return words


KINDS = {"x.txt": files.FILE, "folder": FOLDER, "x.ckpt": files.PARTS}

# Every step that the write takes of the system is counted, and before the one that is told the process is gone.
DYING = """
import ctypes, os, sys
from caffe2tf.files import replacing as files
from caffe2tf.files import leftovers, renames
from tests.test_files import KINDS, put
path, last, exchanges = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
count = 0
def counted(function):
    def call(*args, **options):
        global count
        if count == last:
            os._exit(9)
        count += 1
        return function(*args, **options)
    return call
for name in ("rename", "replace", "link", "unlink", "fsync", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
known = renames._system_call()
renames._system_call = lambda: counted(known) if exchanges and known else None
with files.replacing(path, True, KINDS[os.path.basename(path)]) as temporary:
    put(temporary, "new")
"""


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_killed_at_any_step(name, exchanges, tmp_path):
    """What is under the name is the old or the new, whole; where the system cannot do that in one step, the next run gives
    the old its name back. Nothing is left of the dead."""
    atomic = name == "x.txt" or (name == "folder" and exchanges and renames._system_call() is not None)
    seen = set()
    for step in range(60):
        path = str(tmp_path / str(step) / name)
        os.mkdir(tmp_path / str(step))
        put(path, "old")
        dead = subprocess.run([sys.executable, "-c", DYING, path, str(step), str(exchanges)], env=ENVIRONMENT, cwd=ROOT)
        assert dead.returncode in (0, 9)
        words = got(path) if atomic or dead.returncode == 0 else None
        seen.add(words)
        assert words in ({"old", "new"} if atomic else {"old", "new", None})
        with pytest.raises(KeyboardInterrupt), files.replacing(path, True, KINDS[name]):
            raise KeyboardInterrupt  # a next run that writes nothing
        assert got(path) in ("old", "new")
        assert not [entry for entry in os.listdir(tmp_path / str(step)) if entry.startswith(".")]
        with files.replacing(path, True, KINDS[name]) as temporary:
            put(temporary, "newer")
        assert got(path) == "newer"
        if dead.returncode == 0:
            break
    assert step > 2
    assert "new" in seen


def test_a_checkpoint_whose_files_have_names_of_their_own_is_replaced_in_one_step(tmp_path):
    tf = pytest.importorskip("tensorflow")
    net, path = load(NET), str(tmp_path / "x.ckpt")
    wanted = net.weights["conv"]["kernel"]
    counts = []
    for number in range(4):
        formats.save(net.with_weights({"conv": {k: a + number for k, a in net.weights["conv"].items()}}), path)
        np.testing.assert_array_equal(
            tf.train.load_checkpoint(path).get_tensor("conv/weights"), wanted + np.float32(number)
        )
        counts += files.shards(path)
    assert counts == [1, 2, 1, 2]


def test_what_a_dead_run_left_goes_and_what_a_running_one_makes_stays(tmp_path, caplog):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = leftovers.host()
    gone, runs, other, far = (
        f".x.txt.{host}.{dead.pid}.part0.txt",
        f".x.txt.{host}.{os.getppid()}.part0.txt",
        f".other.txt.{host}.{dead.pid}.part0.txt",
        f".x.txt.far-{host}.{dead.pid}.part0.txt",
    )
    for name in (gone, runs, other, far):
        (tmp_path / name).write_text("half")
    with files.replacing(tmp_path / "x.txt", False) as one:
        put(one, "one")
        with files.replacing(tmp_path / "x.txt", False) as two:  # as another thread would
            put(two, "two")
        assert os.path.exists(one)
        os.unlink(tmp_path / "x.txt")
    assert got(str(tmp_path / "x.txt")) == "one"
    assert sorted(os.listdir(tmp_path)) == sorted([runs, other, far, "x.txt"])
    first, second, *_ = [record.getMessage() for record in caplog.records]
    assert first == f"{tmp_path}/x.txt: removed what a run that was killed left there: {gone}"
    assert f"left {far}; remove it if none runs" in second


def test_a_command_names_what_a_dead_run_left(tmp_path):
    """On stderr, where -q does not forbid it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = f".x.npz.{leftovers.host()}.{dead.pid}.part3.npz"
    for quiet in ([], ["-q"]):
        (tmp_path / left).write_text("half")
        said = run(*CONVERT[:-1], *quiet, "-o", tmp_path / "x.npz", "-f").stderr
        assert os.listdir(tmp_path) == ["x.npz"]
        assert said == (
            "" if quiet else f"note: {tmp_path}/x.npz: removed what a run that was killed left there: {left}\n"
        )


@pytest.mark.parametrize(
    "name", ["node-7", "node.example", "n" * 64, "node-of-a-large-cluster-1", "node-of-a-large-cluster-2", "ü/.. x", ""]
)
def test_a_host_of_any_name_fits_into_a_files_name(name, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: name)
    found = leftovers.host()
    assert re.fullmatch(r"[A-Za-z0-9-]{1,20}", found)
    assert (found == name) == (name == "node-7")
    monkeypatch.setattr(platform, "node", lambda: name + "0")
    assert leftovers.host() != found


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("early", [True, False])
def test_what_appears_meanwhile_is_not_replaced_without_force(name, exchanges, early, tmp_path, monkeypatch):
    """Neither while the result is written nor between the last look and the rename."""
    path = str(tmp_path / name)
    if not exchanges:
        monkeypatch.setattr(renames, "_system_call", lambda: None)
    check = files.check

    def late(*args):
        found = check(*args)
        if os.path.exists(tmp_path / "written"):
            put(path, "mine")
        return found

    if not early:
        monkeypatch.setattr(files, "check", late)

    def write():
        with files.replacing(path, False, KINDS[name]) as temporary:
            put(temporary, "new")
            (tmp_path / "written").touch()
            if early:
                put(path, "mine")

    with pytest.raises(OutputError, match="exists already"):
        write()
    (tmp_path / "written").unlink()
    assert got(path) == "mine"
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def precious(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("precious/thesis.txt", "dir.npz/data.txt", "dir.ckpt/data.txt"):
        os.makedirs(os.path.dirname(name))
        (tmp_path / name).write_text("years of work")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link.npz").symlink_to("file")
    (tmp_path / "gone.npz").symlink_to("nowhere")
    (tmp_path / "folder-link").symlink_to("precious")
    os.mkfifo(tmp_path / "pipe.npz")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.npz")
        yield tmp_path


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("precious/", "precious/: is a folder that caffe2tf did not write"),
        ("./", "./: is a folder that caffe2tf did not write"),
        ("../", "../: is a folder that caffe2tf did not write"),
        ("/", "/: "),
        ("file/", "file/: is a file, and the result is a folder"),
        ("folder-link/", "folder-link/: is a symbolic link"),
        ("dir.npz", "dir.npz: is a folder, and the result is a file"),
        ("link.npz", "link.npz: is a symbolic link"),
        ("gone.npz", "gone.npz: is a symbolic link"),
        ("pipe.npz", "pipe.npz: is a device, a pipe or a socket"),
        ("socket.npz", "socket.npz: is a device, a pipe or a socket"),
        ("/dev/null", "/dev/null: is a device, a pipe or a socket"),
    ],
)
@pytest.mark.parametrize("force", [["-f"], []])
def test_what_we_did_not_write_is_never_replaced(out, why, force, precious):
    before = tree(precious)
    to = ["--to", "npz"] if out == "/dev/null" else []
    result = run(*CONVERT, "-o", out, *to, *force, code=1)
    assert result.stderr.startswith(f"caffe2tf: {why}")
    assert result.stderr.count("\n") == 1
    assert tree(precious) == before
    assert os.path.islink("link.npz")
    assert not os.path.isfile("/dev/null")


def test_pages_and_pictures_replace_no_folder(precious):
    page = run("inspect", NET / "net.prototxt", "--html", "precious", "-f", code=1)
    assert "precious: is a folder, and the result is a file" in page.stderr
    os.mkdir("drawn.svg")
    drawn = run("visualize", "graph", NET / "net.prototxt", "-o", "drawn.svg", "-f", code=1)
    assert "drawn.svg: is a folder, and the result is a file" in drawn.stderr


def test_a_saved_model_is_replaced_only_while_it_is_ours(tmp_path):
    pytest.importorskip("tensorflow")
    out = f"{tmp_path}/saved/"
    run(*CONVERT, "-o", out)
    assert "exists already" in run(*CONVERT, "-o", out, code=1).stderr
    run(*CONVERT, "-o", out, "-f")
    (tmp_path / "saved" / "variables" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    assert "holds variables/notes.txt, which caffe2tf did not write" in run(*CONVERT, "-o", out, "-f", code=1).stderr
    assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    run(*CONVERT, "-o", f"{tmp_path}/empty/", "-f")
    assert (tmp_path / "empty" / "saved_model.pb").exists()


def test_two_processes_that_write_one_name_both_end_well(tmp_path):
    code = textwrap.dedent("""
        import sys
        from caffe2tf.files import replacing as files
        from tests.test_files import KINDS, put
        for _ in range(30):
            with files.replacing(sys.argv[1], True, KINDS[sys.argv[1].rpartition("/")[2]]) as temporary:
                put(temporary, sys.argv[2])
    """)
    for name in KINDS:
        path = str(tmp_path / name)
        started = [
            subprocess.Popen([sys.executable, "-c", code, path, words], env=ENVIRONMENT, cwd=ROOT)
            for words in ("a", "b")
        ]
        assert [process.wait() for process in started] == [0, 0]
        assert got(path) in ("a", "b")
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]


# ------------------------------------------------------------------------------------------------ stopped, and cut

# The command line, with a format whose writing stops half-way and asks to be ended.
HALF_WAY = """
import os, signal, sys, time
from caffe2tf import formats
from caffe2tf.cli.main import main
module, number = formats.module("npz"), int(sys.argv.pop())
def half(net, path, progress=None):
    with open(path, "wb") as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), number)
        time.sleep(60)
module.save = half
main(prog_name="caffe2tf")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_is_one_line_and_leaves_nothing(number, code, tmp_path):
    (tmp_path / "x.npz").write_text("old")
    command = [
        sys.executable,
        "-c",
        HALF_WAY,
        *map(str, CONVERT),
        "-o",
        str(tmp_path / "x.npz"),
        "-f",
        str(int(number)),
    ]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr == "caffe2tf: stopped; nothing half-written is left\n"
    assert os.listdir(tmp_path) == ["x.npz"]
    assert got(str(tmp_path / "x.npz")) == "old"


CUT = """
import os, sys
from caffe2tf import formats
from caffe2tf.cli.main import main
path, kind = sys.argv[2], sys.argv[-1].rpartition(".")[2]
module, change = formats.module(kind), sys.argv.pop(1)
known = module.save
def save(net, out, progress=None, **options):
    if change == "cut":
        os.truncate(path, 4096)
    elif change == "touched":
        os.utime(path, (1, 1))
    return known(net, out, progress, **options)
module.save = save
sys.argv[1:1] = ["convert"]
main(prog_name="caffe2tf")
"""


@pytest.mark.parametrize("change", ["cut", "touched", "left alone"])
@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "safetensors", "caffemodel"])
def test_a_file_that_is_cut_while_it_is_read_is_refused(kind, change, tmp_path):
    text = inputs(data=(1, 300)) + layer("InnerProduct", "inner_product_param { num_output: 400 }")
    prototxt, model = make(tmp_path, text, {"x": [(400, 300), (400,)]})
    out = str(tmp_path / f"out.{kind}")
    command = [sys.executable, "-c", CUT, change, model, "-p", prototxt, "-q", "-o", out]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    if change == "left alone":
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 1
    assert done.stderr == f"caffe2tf: {model}: changed while it was read; run it again when the file is whole\n"
    assert sorted(os.listdir(tmp_path)) == ["net.caffemodel", "net.prototxt"]


def test_a_file_that_was_mapped_before_is_no_part_of_a_command(tmp_path):
    """Though it changes, and its map is given up, while the command runs."""
    path = tmp_path / "x"
    path.write_bytes(bytes(9000))

    def command(maps):
        with mapped.unchanged(), path.open("rb") as file:
            if not maps:
                maps.append(mapped.opened(path, file.fileno()))
            path.write_bytes(bytes(9001 + len(path.read_bytes())))
            maps.clear()

    with path.open("rb") as file:
        before = [mapped.opened(path, file.fileno())]
    command(before)
    with pytest.raises(ParseError, match="changed while it was read"):
        command([])


def test_another_bus_error_ends_the_process_as_ever(tmp_path):
    """Of a map that is not ours: the handler steps back."""
    code = (
        "import mmap, os, sys\nfrom caffe2tf.files import mapped\n"
        "open('ours', 'wb').write(bytes(9000)); open('theirs', 'wb').write(bytes(9000))\n"
        "file = open('ours', 'rb'); ours = mapped.opened('ours', file.fileno())\n"
        "other = open('theirs', 'r+b'); theirs = mmap.mmap(other.fileno(), 0); os.truncate('theirs', 0)\nprint(theirs[8000])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=tmp_path, capture_output=True)
    assert done.returncode == -signal.SIGBUS


def test_what_the_disk_refuses_while_a_file_is_still_written_is_not_lost(tmp_path, monkeypatch):
    """The system tells such an error once: the flush at the end would hear nothing of it."""
    told = threading.Event()

    def fsync(handle):
        if not told.is_set():
            told.set()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(renames, "_TURN", 0.0)
    with open(tmp_path / "x", "wb") as file, pytest.raises(OSError, match="No space"), renames.flushing(file.fileno()):
        assert told.wait(10)
