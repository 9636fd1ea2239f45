"""Build the HTML book: python workflow/book.py NOTEBOOKS TARGET [--plain]

NOTEBOOKS is a folder of executed notebooks: build/notebooks in the batch, or notebooks/ for
the recorded ones. The pages go to the folder TARGET only when there was no warning at all; a
book that was there is replaced.

Jupyter Book 1 is no longer developed. With --plain it only translates _config.yml, and Sphinx alone
builds the book. CI does both, so that this way out stays open.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
# Files that pages may show or include, besides the notebooks.
SOURCES = ("_config.yml", "_toc.yml", "book", "configs", "examples", "nvp", "results")


def chapters() -> list[str]:
    """The file names of the notebooks in _toc.yml, in the order of the book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(name).name + ".ipynb" for name in files if name.startswith("notebooks/")]


def build(notebooks: Path, target: Path, plain: bool = False) -> None:
    """Build the book with the executed `notebooks` and put its HTML at `target`.

    Raises ValueError where a notebook is missing or failed, where Sphinx had a warning, and for a
    target that holds anything but a book.
    """
    if target.is_file() or (
        target.exists() and not (target / "searchindex.js").is_file() and any(target.iterdir())
    ):
        raise ValueError(f"{target} holds no book to replace: name a new or an empty folder")
    for path in (notebooks / name for name in chapters()):
        if not path.is_file():
            raise ValueError(f"{path} is in _toc.yml but not there; run: make notebooks")
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    raise ValueError(f"{path}, cell {number}: {output.ename}: {output.evalue}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        (source / "notebooks").mkdir(parents=True)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                unused = shutil.ignore_patterns("__pycache__", "*.safetensors")
                shutil.copytree(ROOT / name, source / name, ignore=unused)
            else:
                shutil.copy(ROOT / name, source)
        for name in chapters():
            shutil.copy(notebooks / name, source / "notebooks")
        pages = Path(folder, "_build", "html")
        strictly = ("-q", "-W", "-n", "--keep-going")
        if plain:
            run(source, "jupyter-book", "config", "sphinx", ".")
            run(source, "sphinx-build", *strictly, "-b", "html", ".", pages)
        else:
            run(source, "jupyter-book", "build", *strictly, "--path-output", folder, ".")
        target = target.resolve()  # a link stays a link
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(pages, target)


def run(folder: Path, program: str, *arguments: str | Path) -> None:
    """Run a program of this environment in `folder`; `ValueError` where it fails."""
    command = [Path(sys.executable).with_name(program), *arguments]
    # Sphinx alone looks there for the book's own extensions.
    paths = [str(folder / "book" / "_ext"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # It says on stdout where the pages are now, not where they will be.
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise ValueError("Sphinx had the warnings above, and warnings are errors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--plain", action="store_true", help="by Sphinx alone")
    arguments = parser.parse_args()
    try:
        build(arguments.notebooks, arguments.target, arguments.plain)
        print(f"built {arguments.target} from {len(chapters())} notebooks in {arguments.notebooks}")
    except ValueError as error:
        sys.exit(f"the book was not built: {error}")
