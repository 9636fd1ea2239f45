"""The card of a recorded run: `results/runs/NAME/README.md`, from the ledger alone."""

from typing import Any

import yaml

from nvp.ledger.entry import Run
from nvp.model.protocol import batch_norms
from nvp.tables.cells import Table, code, how_it_ended, length, schedule, short, text

LIKELIHOODS = {
    "exact": "The likelihood is exact.",
    "bound": "The likelihood is a lower bound, so the score is an upper bound, from one set of "
    "noise an image unless a row says otherwise.",
    "none": "The model has no likelihood: it can be sampled, but not scored.",
}


def card(run: Run) -> str:
    """A run in one page: its scores, its use, its training and its limits."""
    sections = {"Scores": _scores, "Use": _use, "Training": _training, "Limits": _limits}
    parts = [f"# {text(run.record.title)}", _introduction(run), _pictures(run)]
    for title, section in sections.items():
        parts += [f"## {title}", section(run)]
    front = yaml.safe_dump(_metadata(run), sort_keys=False)
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _metadata(run: Run) -> dict[str, Any]:
    """The head of a card, for sites that list models: tags and, as a `model-index`, the score."""
    data = run.record.data.name
    head: dict[str, Any] = {
        "license": "mit",
        "library_name": "nvp",
        "tags": ["density-estimation", run.config.model.family],
        "datasets": [data],
    }
    if run.has_likelihood:
        result = {
            "task": {"type": "unconditional-image-generation", "name": "Density estimation"},
            "dataset": {"type": data, "name": data, "split": "test"},
            "metrics": [
                {"type": "bits_per_dim", "name": "bits/dim", "value": run.score.bits_per_dim}
            ],
        }
        head["model-index"] = [{"name": run.name, "results": [result]}]
    return head


def _introduction(run: Run) -> str:
    entry, model = run.record, run.config.model
    channels, height, width = model.image_shape
    told = f"conditioned on {model.num_classes} classes or attributes, " * bool(model.num_classes)
    return (
        f"A model of the family {code(model.family)}, {told}with {entry.parameters:,} parameters. "
        f"It was trained on {entry.trained_on:,} images of {code(entry.data.name)}, "
        f"{height}x{width} with {channels} channel{'s' * (channels > 1)} of {model.levels} "
        f"levels. {LIKELIHOODS[run.fresh_model.likelihood]}"
    )


def _pictures(run: Run) -> str:
    seen = ", ".join(f"{number:,}" for number in run.record.film)
    shown = (
        (run.files.samples, "Samples at temperature 1"),
        (run.files.real, "Test images"),
        (run.files.completions, "Upper halves of test images, completed, and whole"),
        (run.files.filmstrip, f"Samples from the same noise after {seen} images"),
    )
    return "\n\n".join(
        f"{title}:\n\n![{title}]({path.name})" for path, title in shown if path.is_file()
    )


def _scores(run: Run) -> str:
    if not run.has_likelihood:
        return "None: see the samples."
    scores = run.scores
    draws = scores.first_more_draws
    rows = [
        ("test images", scores.test),
        ("images for validation", scores.validation),
        ("the first test images", scores.first),
    ]
    if run.fresh_model.likelihood != "exact":
        rows.append((f"the same, {draws.num_draws} sets of noise an image", draws))
    if batch_norms(run.fresh_model):
        rows.append(("the same, statistics of each batch", scores.first_batch_statistics))
    caption = (
        "± is the standard error over images. The scores are of float32 arithmetic"
        f"{', with the weights that are kept' * (run.record.weights is not None)}."
    )
    shape = run.config.model.image_shape
    table = Table(
        caption,
        ("images", "number", "bits/dim", "nats an image"),
        [(what, f"{score.num_images:,}", *score.cells(shape)) for what, score in rows],
    )
    return table.markdown().rstrip()


def _use(run: Run) -> str:
    if run.record.weights is None:
        return f"No weights are kept. Train it: `nvp train results/runs/{run.name}/config.yaml`."
    given, lines = "", ["from nvp.ledger import runs", ""]
    lines.append(f'model = runs()["{run.name}"].load_model()')
    if run.config.model.num_classes:
        given = ", labels=labels"
        lines.insert(0, "import torch\n")
        lines.append("labels = torch.arange(16) % model.num_classes")
    lines.append(f"images = model.sample(16{given})  # uint8, (16, C, H, W)")
    if run.has_likelihood:
        lines.append(f"log_prob = model.log_prob(images{given})  # nats, (16,)")
    python = "\n".join(["```python", *lines, "```"])
    commands = f"Sample from the command line: `nvp sample {run.name} --out samples.png`."
    if run.has_likelihood:
        commands += f" Score the test images again: `nvp evaluate {run.name}`."
    return f"{python}\n\n{commands} Compare the record with these weights: `nvp verify {run.name}`."


def _training(run: Run) -> str:
    entry = run.record
    commits = dict.fromkeys(short(leg.commit) for leg in entry.legs if leg.commit)
    seen = "all" if run.fresh_model.fitted_in_closed_form else f"{entry.images:,}"
    return (
        f"{length(run)}{schedule(run)} ({seen} images seen), on "
        f"{text(entry.hardware)}, networks in {entry.precisions}, seed {entry.seed}; "
        f"{how_it_ended(run)}. Code: {', '.join(commits) or 'commit not noted'}. "
        f"All settings are in [{run.files.config.name}]({run.files.config.name}), the curve is in "
        f"[{run.files.log.name}]({run.files.log.name}), every number in "
        f"[{run.files.record.name}]({run.files.record.name}). Train it again: "
        f"`nvp train results/runs/{run.name}/config.yaml`."
    )


def _limits(run: Run) -> str:
    errors = ": the standard errors are over images, and say nothing about another seed"
    others = "* Images of another kind may have higher likelihoods than its training images.\n"
    return (
        f"* It models the images of {code(run.record.data.name)} and no others.\n"
        f"{others * run.has_likelihood}"
        "* It is no measure of what its family can reach in more time.\n"
        f"* It is one run with one seed{errors * run.has_likelihood}."
    )
