"""Real NVP and Pixel RNN among the models that came after them: published figures only."""

from __future__ import annotations

from decimal import Decimal

from nvp.ledger.entry import Run
from nvp.tables.cells import Table, cite
from nvp.tables.published import UNVERIFIED, Figure, Published

DATA = {"cifar10": "CIFAR-10", "imagenet32": "ImageNet 32x32", "imagenet64": "ImageNet 64x64"}
FAMILIES = {
    "flow": "flows",
    "autoregressive": "autoregressive models",
    "variational": "variational autoencoders",
}


def after(facts: Published, _ledger: dict[str, Run], roles: bool) -> Table:
    """A row for each model whose figures name a family, under its name; the highest figure first.

    What counts for the order is the figure for CIFAR-10, which each of them has.
    """
    models: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in facts.figures:
        if figure.family and figure.data in DATA:
            models.setdefault((figure.family, figure.model), {})[figure.data] = figure

    def rank(model: tuple[str, str]) -> tuple[int, Decimal]:
        bits = models[model]["cifar10"].bits_per_dim
        return list(FAMILIES).index(model[0]), -(bits or Decimal(0))

    rows: list[tuple[str, ...]] = []
    above = ""
    for family, model in sorted(models, key=rank):
        if family != above:
            rows.append((f"**{FAMILIES[family]}**", *("" for _ in DATA), ""))
            above = family
        printed = models[family, model]
        cells = (printed[data].cell if data in printed else "–" for data in DATA)
        rows.append((model, *cells, cite(facts, printed["cifar10"], roles)))
    caption = (
        "Bits/dim, all of them published. CIFAR-10: test images; ImageNet: validation images, as "
        "far as the sources say which; training images in parentheses. Flows are densities on "
        "noisy pixels, with < where the noise is learned. Autoregressive models are exact. "
        "Variational ones are estimates from several draws, ≈."
    )
    if any(figure.unverified for printed in models.values() for figure in printed.values()):
        caption += f" {UNVERIFIED} unverified: no print of it was at hand."
    return Table(caption, ("model", *DATA.values(), "published in"), rows)
