"""Pictures of the chapter on training: pixels, noise, logits, and the curve of a short run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from nvp.flows.preprocess import Logit, LogitForm, dequantise
from nvp_book.figures import BLUE, GREEN, GREY, INK, ORANGE, PALE, VERMILION, WIDTH


def draw_spikes(widths: Tensor, raw: Tensor, noisy: Tensor, entropy: float) -> None:
    """Bits per pixel under a density with a spike of each width, with and without noise."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.0))
    ax.plot(widths, raw, color=VERMILION, label="at the integers: no floor")
    ax.plot(widths, noisy, color=BLUE, label="at integer + noise")
    ax.axhline(entropy, color=INK, ls="--", lw=1.2, label="entropy of the pixel: the floor")
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set(xscale="log", xlabel="width σ of the spike at black", ylabel="bits per pixel")
    ax.invert_xaxis()
    ax.legend(loc="lower left")


def draw_stages(images: Tensor, noise: Tensor) -> None:
    """The pixels of uint8 `images` as integers, with `noise` in [0, 1), and as logits."""
    x = dequantise(images, noise)
    y, _ = Logit()(x)
    panels = (
        ("x: integers", images, np.linspace(0, 24, 97)),
        ("x + u: a density", 256 * x, np.linspace(0, 24, 97)),
        ("y: after the logit", y, np.linspace(-3, 3, 97)),
    )
    _, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4))
    for ax, (title, values, bins) in zip(axes, panels, strict=True):
        ax.hist(values.flatten().numpy(), bins, density=True, color=BLUE)
        ax.set(title=title, yscale="log")
    axes[0].set_ylabel("density")
    axes[0].set_xlabel("the darkest levels")
    axes[1].set_xlabel("the darkest levels")


def draw_logits(alpha: float) -> None:
    """y and log dy/dx of both forms of the logit, over the whole range of x."""
    x = torch.linspace(0, 1, 4001, dtype=torch.double)[:-1, None]
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
    labels = {LogitForm.PAPER: "as printed", LogitForm.SYMMETRIC: "symmetric"}
    for (form, label), colour in zip(labels.items(), (VERMILION, BLUE), strict=True):
        y, log_derivative = Logit(form, alpha)(x)
        axes[0].plot(x, y, color=colour, label=label)
        axes[1].plot(x, log_derivative, color=colour)
    axes[0].set(xlabel="pixel, scaled to [0, 1)", ylabel="y")
    axes[1].set(xlabel="pixel, scaled to [0, 1)", ylabel="log dy/dx (nats)")
    axes[0].legend()


def draw_uniform_and_gaussian() -> None:
    """Uniform noise, and the Gaussian of the same mean and variance."""
    width = math.sqrt(12)
    z = np.linspace(-3.5, 3.5, 500)
    gaussian = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    uniform = np.where(np.abs(z) < width / 2, 1 / width, 0)
    _, ax = plt.subplots(figsize=(WIDTH, 2.5))
    ax.fill_between(z, uniform, color=PALE, step="mid", label="noise of a certain pixel")
    ax.plot(z, gaussian, color=BLUE, label="best Gaussian")
    ax.set(xlabel="z", ylabel="density")
    ax.legend(loc="upper right", fontsize=9)


def draw_short_run(
    steps: Sequence[int], losses: Sequence[float], scores: Mapping[str, Mapping[int, float]]
) -> None:
    """Loss of each step in bits/dim, and `scores`: name -> step -> held-out bits/dim."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.0))
    ax.plot(steps, losses, color=GREY, lw=0.8, label="training batch")
    for (name, points), colour, marker in zip(
        scores.items(), (ORANGE, BLUE, GREEN), "so^", strict=False
    ):
        ax.plot(list(points), list(points.values()), marker + "-", color=colour, label=name)
    lowest = min(*losses, *(min(points.values()) for points in scores.values()))
    ax.set(xlabel="step", ylabel="bits/dim", ylim=(lowest - 0.2, losses[0] + 0.2))
    ax.legend()


def draw_more_draws(draws: Sequence[int], bits: Sequence[float]) -> None:
    """The importance-weighted bound, in bits/dim, over the number of draws."""
    _, ax = plt.subplots(figsize=(0.7 * WIDTH, 2.5))
    ax.plot(draws, bits, "o-", color=BLUE)
    ax.set_xscale("log", base=2)
    ax.set_xticks(draws, [str(k) for k in draws])
    ax.minorticks_off()
    ax.set(xlabel="draws K of the noise for each image", ylabel="bits/dim")


def draw_statistics(scores: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    """Bits/dim under each kind of statistics in `names`, a colour for each moment of a run."""
    _, ax = plt.subplots(figsize=(WIDTH, 1.9))
    for (moment, bits), colour, marker in zip(
        scores.items(), (VERMILION, BLUE), "so", strict=False
    ):
        ax.plot(bits, range(len(names)), marker, color=colour, ms=8, label=moment)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", color=PALE)
    ax.set(xlabel="bits/dim")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
