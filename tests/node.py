"""JavaScript of the live figures, evaluated in Node.js."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from browser import missing
from nvp_book import live

NODE = shutil.which("node")


def evaluate(files: Sequence[str], expression: str, **given: Any) -> Any:
    """The value of a JavaScript expression in Node, after these files and constants.

    A test that asks for it is skipped where there is no Node.
    """
    if NODE is None:
        missing("Node.js")
    lines = [(live.SOURCES / name).read_text() for name in files]
    lines += [f"const {name} = {json.dumps(value)};" for name, value in given.items()]
    lines.append(f"process.stdout.write(JSON.stringify({expression}));")
    command = [NODE, "--input-type=commonjs", "-"]
    result = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
