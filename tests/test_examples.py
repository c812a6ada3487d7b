"""The notebooks of examples/ run from their first cell to the last, and are kept without what they printed."""

import json

import pytest

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_starts_with_what_it_is(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    first, *_ = book["cells"]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")
    for cell in book["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all of them: each starts with nothing but the libraries that are loaded already."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, kernel, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    start = nbformat.v4.new_code_cell(
        f"%reset -f\nimport os, sys\nos.chdir({str(tmp_path)!r})\nsys.path[0] = {str(ROOT)!r}"
    )
    book.cells.insert(0, start)
    NotebookClient(book, timeout=300, km=kernel).execute()
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
