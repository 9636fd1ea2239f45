"""Pictures of the appendix on training."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import BLUE, GREY, VERMILION, WIDTH, ink_of


def plot_singular_values(values: Mapping[str, Tensor]) -> None:
    """Singular values in falling order, those of each rule under its name, at the curve's end."""
    _, ax = plt.subplots(figsize=(0.64 * WIDTH, 3.0))  # names in sight on a phone
    for (name, each), colour in zip(values.items(), (GREY, BLUE, VERMILION), strict=True):
        ax.semilogy(range(1, 1 + len(each)), each, color=colour)
        last = (len(each) + 2, each[-1].item())
        ax.text(*last, name, va="center", color=ink_of(colour))
    ax.set(xlabel="number of the singular value", ylabel="share of the largest")
    ax.set_xticks(range(0, 1 + len(each), 16))
    ticks = (0.1, 0.2, 0.5, 1)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.margins(x=0.02)
    ax.set_xlim(right=1.25 * ax.get_xlim()[1])
