"""Pictures of the way from integers to bits: pixels, noise, logits, and the floor (section 4.1)."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from nvp.flows.preprocess import Logit, LogitForm
from nvp_book.figures import ABOVE, BLUE, GREY, INK, PALE, VERMILION, WIDTH


def plot_spikes(widths: Tensor, raw: Tensor, noisy: Tensor, entropy: float) -> None:
    """Bits per pixel under a density with a spike of each width, with and without noise."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.0))
    ax.plot(widths, raw, color=VERMILION, label="at the integers: no floor")
    ax.plot(widths, noisy, color=BLUE, label="at integer + noise")
    ax.axhline(entropy, color=INK, ls="--", lw=1.2, label="entropy of the pixel: the floor")
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set(xscale="log", xlabel="width σ of the spike at black, levels", ylabel="bits per pixel")
    ax.invert_xaxis()
    ax.legend(loc="lower left")


def plot_stages(images: Tensor, noisy: Tensor, x: Tensor) -> None:
    """The pixels of uint8 `images` as integers, with noise in [0, 1), and as logits."""
    panels = (
        ("v: integers", "share", images, np.arange(25) - 0.5, 0.3),
        ("v + u: a density", "density", noisy, np.linspace(0, 24, 97), 1),
        ("x: after the logit", "density", x, np.linspace(-3, 3, 97), 1),
    )
    _, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4))
    for ax, (title, what, values, bins, width) in zip(axes, panels, strict=True):
        share = 1 / (values.numel() * (bins[1] - bins[0]))
        weights = np.full(values.numel(), share)
        ax.hist(values.flatten().numpy(), bins, weights=weights, rwidth=width, color=BLUE)
        ax.set(title=title, ylabel=what, xlabel="the darkest levels", yscale="log")
    axes[2].set_xlabel("x")


def plot_logits(margin: float) -> None:
    """x and log dx/dx~ of both forms of the logit, over the whole range of a pixel."""
    scaled = torch.linspace(0, 1, 4001, dtype=torch.double)[:-1, None]
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
    labels = {LogitForm.PAPER: "as printed", LogitForm.SYMMETRIC: "symmetric"}
    for (form, label), colour in zip(labels.items(), (VERMILION, BLUE), strict=True):
        x, log_derivative = Logit(form, margin)(scaled)
        axes[0].plot(scaled, x, color=colour, label=label)
        axes[1].plot(scaled, log_derivative, color=colour)
    axes[0].set(xlabel="pixel, scaled to [0, 1)", ylabel="x")
    axes[1].set(xlabel="pixel, scaled to [0, 1)", ylabel="log-derivative (nats)")
    axes[0].legend()


def plot_noise(noise: Mapping[str, Tensor]) -> None:
    """The density of noise in [0, 1) at pixels of each kind."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.5))
    for (level, u), colour in zip(noise.items(), (INK, GREY, BLUE), strict=True):
        ax.stairs(*np.histogram(u, 40, (0, 1), density=True), color=colour, label=level, lw=1.5)
    ax.set(xlabel="noise u", ylabel="density")
    ax.legend(**ABOVE)


def plot_uniform_and_gaussian() -> None:
    """Uniform noise, and the Gaussian of the same mean and variance."""
    width = math.sqrt(12)
    z = np.linspace(-3.5, 3.5, 500)
    gaussian = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    uniform = np.where(np.abs(z) < width / 2, 1 / width, 0)
    _, ax = plt.subplots(figsize=(WIDTH, 2.5))
    ax.fill_between(z, uniform, color=PALE, step="mid", label="noise of a pixel that is certain")
    ax.plot(z, gaussian, color=BLUE, label="best Gaussian")
    ax.set(xlabel="z", ylabel="density")
    ax.legend(**ABOVE)
