"""The files around the package agree with each other, and with it."""

import ast
import functools
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import jupytext
import pytest
import torch
import yaml
from browser import missing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nvp

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
chapter = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def distributions(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def test_conda_installs_the_project_itself() -> None:
    *packages, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == {"pip": ["-e .[cli,import,book,dev,lab]"]}
    assert {"cli", "import", "book", "dev", "lab"} <= set(PROJECT["optional-dependencies"])
    versions = [f"3.{minor}" for minor in range(20)]
    own = set(Requirement(f"python{PROJECT['requires-python']}").specifier.filter(versions))
    (python,) = (each for each in packages if each.startswith("python"))
    assert set() < set(Requirement(python).specifier.filter(versions)) <= own


def test_the_lock_satisfies_the_project() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in (Requirement(line) for line in lines if not line.startswith("#"))
    }
    extras = PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, sum(extras, PROJECT["dependencies"])):
        assert canonicalize_name(requirement.name) in lock, f"{requirement}: run make lock"
        locked = lock[canonicalize_name(requirement.name)]
        if requirement.name in ("torch", "torchvision"):  # their builds differ between machines
            assert locked == requirement.specifier
        else:
            assert re.fullmatch(r"==[^+*]+", str(locked)), f"{requirement.name} is not pinned"
            pinned = str(locked).removeprefix("==")
            assert requirement.specifier.contains(pinned), f"{requirement}: run make lock"


def test_every_target_that_is_named_can_be_made() -> None:
    """What pages, workflows and the command line tell people to run, `make help` lists."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True)
    targets = set(re.findall(r"^  make ([\w-]+) +\w", shown.stdout, re.M))
    pages = [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / ".github").rglob("*.*")]
    for page in (*pages, *SOURCES, ROOT / ".ci" / "run"):
        named = set(re.findall(r"(?:`|^|run: |exec )make ([\w-]+)", page.read_text(), re.M))
        assert named <= targets, f"{page.relative_to(ROOT)} names {sorted(named - targets)}"


def test_every_path_that_is_named_is_there() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), ROOT / "book/architecture.md"]
    named = r"[`(]((?:\w+/)+[\w.-]*|\w+\.(?:md|toml|yml))[`)]"
    for page in pages:
        for path in re.findall(named, page.read_text()):
            made = path.startswith("build/") or re.search(r"NN_|NAME|runs/x", path)
            assert made or (ROOT / path).exists(), f"{page.relative_to(ROOT)} names {path}"


def test_continuous_integration_runs_what_a_person_runs() -> None:
    assert (ROOT / ".ci" / "run").read_text().endswith("exec make test\n")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert ".ci/run" in commands
    assert all(re.fullmatch(r"\.ci/run|make \w+", command) for command in commands)


def test_the_version_heads_the_list_of_changes() -> None:
    (newest, *_) = re.findall(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest == nvp.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == newest


@pytest.mark.slow
def test_the_package_needs_no_extra() -> None:
    """Only the command line and the import of images load what an extra brings."""
    code = """if True:
        import importlib, pkgutil, sys
        import nvp
        sys.modules["nvp.cli"] = None  # the walk would import it, to look inside
        for module in pkgutil.walk_packages(nvp.__path__, "nvp."):
            if not module.name.startswith(("nvp.cli", "nvp.data.importing")):
                importlib.import_module(module.name)
        print(*{name.partition(".")[0] for name in sys.modules})
    """
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    owners = packages_distributions()
    loaded = distributions(owner for name in shown.stdout.split() for owner in owners.get(name, ()))
    assert distributions(PROJECT["dependencies"]) <= loaded
    assert not loaded & distributions(chain(*PROJECT["optional-dependencies"].values()))


def test_the_command_line_says_which_extra_it_needs(monkeypatch) -> None:
    for name in [name for name in sys.modules if re.match(r"nvp\.cli\b", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"the command line needs pip install '\.\[cli\]'"):
        importlib.import_module("nvp.cli")


def test_a_missing_browser_skips_a_test_or_fails_it(monkeypatch) -> None:
    for required, outcome in (("", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("NVP_REQUIRE_BROWSER", required)
        with pytest.raises(outcome, match="Chromium is not installed"):
            missing("Chromium")


def test_no_path_of_a_machine_is_kept() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, text=True, capture_output=True)
    if listed.returncode:  # no checkout, or one of another user
        pytest.skip(f"git lists no files: {listed.stderr.splitlines()[0]}")
    folders = re.compile(rb"/(?:work|root|home|Users)/\w")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found = folders.search(content)
            assert not found, f"{name} has {found[0].decode()}"


def test_a_file_is_one_idea() -> None:
    for folder, longest in (("nvp", 350), ("book/nvp_book", 350), ("tests", 500)):
        lengths = {p: p.read_bytes().count(b"\n") for p in (ROOT / folder).rglob("*.py")}
        long = [str(path) for path, length in lengths.items() if length > longest]
        assert not long, f"over {longest} lines, split it: {long}"


def test_the_example_of_the_readme_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["nats"].shape == (16,)
    assert names["new"].shape == names["images"].shape


@functools.cache  # to read a notebook takes longer than to check it
def cells(path: Path) -> list[Any]:
    return jupytext.read(path).cells


@chapter
def test_a_chapter_is_recorded_as_it_is_written(source: Path) -> None:
    recorded = source.with_suffix(".ipynb")
    run = f"run: make notebooks/{recorded.name}"
    assert recorded.exists(), f"{source.name} was never recorded; {run}"
    halves = [
        [
            (c.cell_type, c.metadata.get("tags", []), c.metadata.get("mystnb"), c.source)
            for c in cells(half)
        ]
        for half in (source, recorded)
    ]
    assert halves[0] == halves[1], f"{recorded.name} is behind {source.name}; {run}"
    assert recorded.stat().st_size < 1_000_000, "1 MB or more: plot fewer points, or smaller images"
    code = [cell for cell in cells(recorded) if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a cell was never run"


@chapter
def test_a_chapter_keeps_its_rules(source: Path) -> None:
    tagged = [cell for cell in cells(source) if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in tagged] == ['profile = "laptop"']
    for cell in cells(source.with_suffix(".ipynb")):
        told = cell.metadata.get("mystnb", {})
        kinds = [kind for output in cell.get("outputs", ()) for kind in output.get("data", ())]
        if "figure" in told or any(kind.startswith("image/") for kind in kinds):
            what = 'add mystnb={"image": {"alt": "..."}} to the header of its cell'
            assert told.get("image", {}).get("alt"), f"no alt text, {what}: {told or cell.source}"
            assert {"caption", "name"} <= told.get("figure", {}).keys(), f"no caption: {told}"
    code = [cell.source for cell in cells(source) if cell.cell_type == "code"]
    wide = [line for cell in code for line in cell.splitlines() if len(line) > 79]
    assert not wide


def bound(tree: ast.AST) -> set[str]:
    """The names that code binds, in any scope."""
    nodes = list(ast.walk(tree))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return names | {n.arg for n in nodes if isinstance(n, ast.arg)}


@chapter
def test_what_a_reader_sees_runs_without_the_rest(source: Path) -> None:
    """No cell of the page uses a name that only removed cells bind."""
    removed: set[str] = set()
    shown: set[str] = set()
    for cell in (cell for cell in cells(source) if cell.cell_type == "code"):
        tree = ast.parse(cell.source)
        if "remove-cell" in cell.metadata.get("tags", []):
            removed |= bound(tree)
            continue
        shown |= bound(tree)
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not used & removed - shown


def copied(chapter: str, *classes: str) -> dict[str, Any]:
    """The names of an empty notebook, after the cells of the chapter that define these classes."""
    names: dict[str, Any] = {}
    for cell in cells(ROOT / f"notebooks/{chapter}.py"):
        defines = re.search(rf"^class ({'|'.join(classes)})\b", cell.source, re.M)
        if defines and cell.cell_type == "code":
            exec(cell.source, names)
    assert set(classes) <= set(names)
    return names


def test_real_nvp_is_three_cells() -> None:
    names = copied("06_networks", "Network", "BatchNorm", "RealNVP")
    model = names["RealNVP"](channels=1, side=8, maps=2, scales=2)
    model.log_prob(torch.randint(256, (16, 1, 8, 8))).mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.eval().sample(2).shape == (2, 1, 8, 8)


def test_the_pixel_rnns_are_three_cells() -> None:
    names = copied("12_pixelcnn", "MaskedConv", "PixelCNN", "PixelRNN")
    images = torch.randint(4, (2, 3, 5, 6))
    for layer in ("RowLSTM", "DiagonalBiLSTM", "PixelCNN"):
        model = names["PixelRNN"](names[layer], (3, 5, 6), levels=4, h=6, head=6)
        logits = model(images)
        assert logits.shape == (2, 4, 3, 5, 6)
        logits.sum().backward()
        assert all(weight.grad is not None for weight in model.parameters()), layer
