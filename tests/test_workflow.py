"""The scripts of the pipeline: notebooks are executed with the parameters they have."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = """\
# %% tags=["parameters"]
profile = "laptop"

# %%
print(profile)
assert profile != "broken", "broken on purpose"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "01_small.py"
    path.write_text(NOTEBOOK)
    return path


def execute(source: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "workflow" / "execute.py"
    command = [sys.executable, script, source, source.with_suffix(".ipynb"), *parameters]
    return subprocess.run(command, text=True, capture_output=True)


def test_a_parameter_reaches_the_notebook(source: Path) -> None:
    assert execute(source, "profile=paper").returncode == 0
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[-1].outputs[0].text == "paper\n"
    assert str(source.parent) not in source.with_suffix(".ipynb").read_text()


def test_an_unknown_parameter_is_an_error(source: Path) -> None:
    result = execute(source, "profil=paper")
    assert result.returncode == 1
    assert "has no parameter profil; it has: profile" in result.stderr
    assert not source.with_suffix(".ipynb").exists()


def test_a_cell_that_fails_is_an_error(source: Path) -> None:
    result = execute(source, "profile=broken")
    assert result.returncode == 1
    assert "broken on purpose" in result.stderr
    assert not source.with_suffix(".ipynb").exists()
    assert source.with_suffix(".failed.ipynb").exists()
