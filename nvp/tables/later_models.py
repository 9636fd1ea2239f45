"""The two papers among the models before and after them: published figures only."""

from nvp.ledger.entry import Run
from nvp.tables.cells import Table, cite, mark_note
from nvp.tables.published import UNLIKE, Published

DATA = {"cifar10": "CIFAR-10", "imagenet32": "ImageNet 32x32", "imagenet64": "ImageNet 64x64"}
APPROACHES = {
    "flow": "flows",
    "autoregressive": "autoregressive models",
    "latent": "variational autoencoders",
    "diffusion": "diffusion models",
}
KINDS = {
    "exact": "exact",
    "uniform noise": "bound, uniform noise",
    "learned noise": "bound, learned noise",
    "variational": "bound, variational",
    "sampled": "estimate, several draws",
    "ode": "estimate, ODE solver",
    "series": "estimate, truncated series",
}


def later_models(facts: Published, _ledger: dict[str, Run]) -> Table:
    """A row for each of `facts.models`, by family, then by age."""
    rows: list[tuple[str, ...]] = []
    for family, title in APPROACHES.items():
        rows.append((f"**{title}**", *("" for _ in range(len(DATA) + 3))))
        models = [(name, model) for name, model in facts.models.items() if model.family == family]
        for name, model in sorted(models, key=lambda pair: pair[1].preprint):
            figures = {f.data: f for f in facts.figures if f.model == name and f.data in DATA}
            cells = (figures[data].digits if data in figures else "–" for data in DATA)
            printed = dict.fromkeys(cite(figure) for figure in figures.values())
            rows.append((name, model.preprint[:4], KINDS[model.kind], *cells, "; ".join(printed)))
    caption = (
        "Bits/dim, all of them published; a dash where no score was seen. CIFAR-10: test images; "
        "ImageNet: validation images of the downsampling of 2016, as far as the sources name it; "
        "training images in parentheses. The year is that of the first preprint. "
        f"{UNLIKE} on other images, certainly or probably: the downsampling of 2017."
    )
    header = ("model", "year", "likelihood", *DATA.values(), "published in")
    return Table(caption + mark_note(rows), header, rows)
