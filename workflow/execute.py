"""Execute one notebook: python workflow/execute.py SOURCE.py TARGET.ipynb [name=value ...]

papermill, with three things it lacks. A parameter that the notebook does not have is an error.
A notebook that failed is kept beside the target, where its traceback can be read. No paths or
times of this machine stay in the target, so that it can be recorded.
"""

import argparse
import sys
import time
from pathlib import Path

import jupytext
import papermill

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
# The kernel warns that it speaks TCP with itself, and calls it an error when it is shut down.
QUIET = ["--log-level=CRITICAL"]


def execute(source: Path, target: Path, parameters: dict[str, str]) -> None:
    """Run `source` (py:percent) with `parameters` and write the executed notebook to `target`.

    Raises ValueError for an unknown parameter, PapermillExecutionError for a cell that failed.
    """
    notebook = jupytext.read(source)
    notebook.metadata.setdefault("kernelspec", KERNEL)
    known = set(papermill.inspect_notebook(notebook))
    if unknown := sorted(set(parameters) - known):
        raise ValueError(
            f"{source} has no parameter {', '.join(unknown)}; it has: {', '.join(sorted(known))}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".failed.ipynb")
    notebook = papermill.execute_notebook(
        notebook,
        unfinished,
        parameters,
        progress_bar=False,
        extra_arguments=QUIET,
        coalesce_streams=True,
    )
    del notebook.metadata["papermill"]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random, and would change with each recording
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")  # the page shows the notebook's own
        elif not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    jupytext.write(notebook, unfinished)
    unfinished.replace(target)


def main(argv: list[str] | None = None) -> int:
    """Read the command line, or `argv`; 0 when the notebook ran through, 1 when it did not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    arguments = parser.parse_args(argv)
    if unnamed := [pair for pair in arguments.parameters if "=" not in pair]:
        parser.error(f"{unnamed[0]} is no name=value")
    parameters = dict(pair.split("=", 1) for pair in arguments.parameters)
    start = time.monotonic()
    try:
        execute(arguments.source, arguments.target, parameters)
    except papermill.PapermillExecutionError as error:
        failed = arguments.target.with_suffix(".failed.ipynb")
        what = f"In [{error.exec_count}]: {error.ename}: {error.evalue}"
        print(f"{arguments.source}, {what}; see {failed}", file=sys.stderr)
        return 1
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: the kernel was killed
        print(f"{arguments.source}: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.source}: executed in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
