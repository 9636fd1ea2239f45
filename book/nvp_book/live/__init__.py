"""Live figures: plain JavaScript that goes with the page, for the book and for JupyterLab.

A figure is one fragment of HTML: an empty place, and a script that carries its style, its data and
its code, and fetches nothing. The sources stand beside this file; the rules and the mathematics
stand in files of their own, without a browser, and the tests compare those with the package.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from IPython.display import HTML
from torch import Tensor

from nvp.files import write_text
from nvp.flows.toy import ToyData, ToyFlow, fit
from nvp_book.live import pixelrnn, realnvp

SOURCES = Path(__file__).parent
# What each figure has beside live.css, live.js, and the two files of its name.
FIGURES = {
    "masks": ("receptive.js",),
    "plane": ("flow.js", "panel.js"),
    "images": ("tensors.js", "realnvp.js"),
    "completion": ("tensors.js", "pixelrnn.js"),
}
FLOWS = "flows.json"
DIGITS = 5  # of a weight in a page, in all


def masks() -> HTML:
    """The pixels that a pixel sees: by Real NVP's masks, and by the layers of the Pixel RNN."""
    return HTML(fragment("masks"))


def plane() -> HTML:
    """Real NVP of points in the plane: drag them, and the Gaussian, and step through the couplings.

    It has the recorded flows of the three sets of `ToyData`.
    """
    return HTML(fragment("plane", json.loads(_source(FLOWS))))


def images() -> HTML:
    """Real NVP of images: the manifold of four of them (eq 19), temperature, and appendix D.

    It has the recorded run `live-fashion`, and embedded test images.
    """
    return HTML(fragment("images", *realnvp.recorded()))


def completion() -> HTML:
    """A Pixel RNN completes what is scribbled, several times, and says what each pixel cost.

    It is the recorded run of one layer on binarised MNIST.
    """
    return HTML(fragment("completion", *pixelrnn.recorded()))


def flow_data(flow: ToyFlow, points: Tensor) -> dict[str, Any]:
    """The content of the figure `plane`: weights of a flow, and points (M, 2) to show."""
    weights = {name: _rounded(value) for name, value in flow.state_dict().items()}
    return {"weights": weights, "points": _rounded(points)}


def record_flows() -> None:
    """Fit a flow to each set of `ToyData`, under a minute each, and write what the book shows.

    python -c "from nvp_book.live import record_flows; record_flows()"
    """
    flows = {}
    for data in ToyData:
        torch.manual_seed(0)
        flow = ToyFlow()
        fit(flow, data.sample(20_000, seed=1))
        flows[data.value] = flow_data(flow, data.sample(300, seed=2))
    text = json.dumps(flows, separators=(",", ":"))
    write_text(SOURCES / FLOWS, text + "\n")


def fragment(name: str, data: object = None, still: str = "") -> str:
    """The HTML of a figure: its place and its script, in which `data` is the constant DATA.

    `still` is HTML for where no script runs.
    """
    style = "\n".join(map(_source, ("live.css", f"{name}.css")))
    # Inside a script "</" would be read as markup, and so would "<!--".
    constants = [
        f"const {key} = {json.dumps(value, separators=(',', ':'))};".replace("<", "\\u003c")
        for key, value in {"STYLE": style, "DATA": data}.items()
    ]
    scripts = map(_source, ("live.js", *FIGURES[name], f"{name}.js"))
    script = "\n".join([*constants, *scripts])
    # Several figures of one kind may enter a page at once: each script finds the place of its data.
    place = f"{name}-{zlib.crc32(script.encode()):08x}"
    return (
        f'<div class="nvp-live" data-figure="{place}">{still}'
        "<p>This figure needs JavaScript. The text around it says what it shows.</p></div>\n"
        f'<script>\n(() => {{\nconst PLACE = "{place}";\n{script}\n}})();\n</script>'
    )


def _source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def _rounded(values: Tensor) -> Any:
    """Nested lists of numbers that are short when written down."""
    if values.dim() == 0:
        return float(f"{values.item():.{DIGITS}g}")
    return [_rounded(value) for value in values]
