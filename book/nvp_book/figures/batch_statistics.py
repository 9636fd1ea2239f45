"""Pictures of the appendix on the statistics of batch normalisation."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import ABOVE, BLUE, GREEN, INK, ORANGE, VERMILION, WIDTH


def plot_saturation(x: Tensor, normalised: Mapping[str, Tensor], bounds: Sequence[float]) -> None:
    """A scalar x against what batch normalisation makes of it; dotted lines at +-`bounds`."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.1))
    colours = (INK, BLUE, GREEN, VERMILION)
    styles = ("--", "-", "-.", (0, (4, 1, 1, 1, 1, 1)))
    for (name, z), colour, style in zip(normalised.items(), colours, styles, strict=False):
        ax.plot(x, z, ls=style, color=colour, label=name)
    for bound, colour in zip(bounds, colours[1:], strict=False):
        for sign in (-1, 1):
            ax.axhline(sign * bound, color=colour, ls=":", lw=1)
    high = 1.25 * max(bounds)
    ax.set(xlabel="x, in standard deviations of the other images", ylabel="normalised")
    ax.set(xlim=(x[0].item(), x[-1].item()), ylim=(-high, high))
    ax.legend(**ABOVE)


def plot_gradient_errors(
    sizes: Sequence[int], errors: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Noise (left) and bias (right) of the gradient over `sizes` of batches, for each kind of norm.

    `errors` has (standard deviations, biases), relative to the length of the reference gradient.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    for (name, both), colour, marker in zip(
        errors.items(), (BLUE, ORANGE, GREEN), "os^", strict=True
    ):
        for ax, values in zip(axes, both, strict=True):
            ax.plot(sizes, values, marker + "-", color=colour, label=name)
    for ax, title in zip(axes, ("noise", "bias"), strict=True):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.set(title=title, xlabel="images in a batch", ylim=(0, None))
    axes[0].set_ylabel("relative to the gradient")
    handles = axes[0].get_legend_handles_labels()  # the same in both panels
    figure.legend(*handles, loc="outside upper left", ncols=3, fontsize=9)
