"""A model of one's own, named by a configuration: from the file to the tables."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from ledgers import rewrite
from pixels import config as pixel_config
from pixels import noise
from tiny import refusal
from torch import Tensor
from torch.distributions import Binomial

from nvp import PixelRNN, RealNVP, RealNVPConfig
from nvp.autoregressive.layers import Head
from nvp.autoregressive.output import Output
from nvp.config import parse_config
from nvp.ledger import enter as record
from nvp.ledger import entry as ledger
from nvp.ledger import verify
from nvp.runs.load import trust_option
from nvp.runs.sheet import write_samples
from nvp.runs.tensors import load_tensors
from nvp.tables import build as results
from nvp.testing import check_model
from nvp.training.loop import prepare

# Every pixel has a histogram of its own; `sharpness` multiplies its logits.
MODULE = """
import torch
from torch import nn

from nvp.model import ImageModel, ModelConfig


class Histograms(ImageModel):
    likelihood = "exact"

    def __init__(self, config):
        super().__init__()
        self.image_shape, self.sharpness = config.image_shape, config.sharpness
        self.logits = nn.Parameter(0.01 * torch.randn(256, *config.image_shape))

    def _log_probs(self, images, num_draws, generator, y):
        log_p = torch.log_softmax(self.sharpness * self.logits, dim=0)
        yield log_p.gather(0, images.long()).sum(dim=(1, 2, 3))

    def sample(self, n, *, generator=None, temperature=1.0, labels=None):
        self.condition(labels, n)
        p = torch.softmax(self.sharpness * self.logits / temperature, dim=0)
        flat = p.flatten(1).T.expand(n, -1, -1).flatten(0, 1)
        drawn = torch.multinomial(flat, 1, generator=generator)
        return drawn.to(torch.uint8).reshape(n, *self.image_shape)


class HistogramsConfig(ModelConfig):
    sharpness: float = 1.0

    def build(self):
        return Histograms(self)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> str:
    """A module that can be imported, in a folder on the path."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_histograms.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "my_histograms", raising=False)
    return "my_histograms"


def edit(old: str, new: str) -> None:
    """Change the module before it is imported."""
    code = Path(sys.path[0]) / "my_histograms.py"
    assert old in code.read_text()
    code.write_text(code.read_text().replace(old, new))


def tree_of(family: str, **model: Any) -> dict[str, Any]:
    """`tiny.config_tree()` with a model of this family."""
    shape = {"family": family, "image_shape": [1, 8, 8]}
    return {**tiny.config_tree(), "title": "Histograms", "model": {**shape, **model}}


def test_from_the_configuration_to_the_tables(module: str, tmp_path: Path) -> None:
    run = tiny.train(tmp_path, tree_of(f"{module}:HistogramsConfig", sharpness=2))
    data_root, root = tmp_path / "data", tiny.ledger(tmp_path / "results")
    record.record(run, data_root=data_root, first=20, num_draws=2, root=root)

    entry = ledger.runs(root)["tiny"]
    assert entry.config.model.family == "my_histograms:HistogramsConfig"
    assert entry.load_model().sharpness == 2
    assert entry.record.parameters == 256 * 64
    assert [c.outcome for c in verify.verify(data_root=data_root, root=root)] == ["agrees"] * 4
    rewrite(root, "data.name", "mnist")
    rows = results.table("28x28", root=root).rows
    assert rows[0][1] == "**Histograms, this code**"
    assert rows[0][2].startswith(f"{entry.score.bits_per_dim:.3f} ± ")

    tiny.done("sample", run, "-n", 4, "--out", tmp_path / "sheet.png", "--data-root", data_root)
    assert (tmp_path / "sheet.png").is_file()


def test_what_cannot_be_recorded_is_found_before_scoring(module, tmp_path, monkeypatch) -> None:
    run = tiny.train(tmp_path, tree_of(f"{module}:HistogramsConfig"))
    monkeypatch.setattr("nvp.ledger.enter.score_all", None)
    for method in ("sample", "_log_probs"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[module].Histograms, method, lambda self, n: None)
            with refusal(r"a score in float64 and a sample \(TypeError: "):
                record.record(run, data_root=tmp_path / "data", root=tmp_path)


def test_a_module_of_elsewhere_needs_trust_in_later_commands(module: str) -> None:
    config = parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml")
    assert trust_option(config) == " --trust"
    assert trust_option(parse_config(tiny.config_tree(), "tiny.yaml")) == ""


def test_a_configuration_made_in_python_says_where_it_is(module: str) -> None:
    chosen = parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml")
    made = type(chosen.model)(image_shape=(1, 8, 8))
    assert made.family == "my_histograms:HistogramsConfig"
    again = parse_config(chosen.model_copy(update={"model": made}).model_dump(mode="json"), "again")
    assert again == chosen
    assert again.build_model().sharpness == 1
    assert (again.model.levels, again.model.num_classes) == (256, 0)


@pytest.mark.parametrize(
    ("family", "changes", "complaint"),
    [
        ("no_such_module:Config", {}, "no_such_module, which cannot be imported"),
        ("my_histograms:Histograms.Missing", {}, "my_histograms has no Histograms.Missing"),
        ("my_histograms:Histograms", {}, "Histograms of my_histograms, which is no subclass"),
        ("nvp.model.config:ModelConfig", {}, "ModelConfig of nvp.model.config, which is no"),
        ("my_histograms", {}, "model: unknown family 'my_histograms'; use realnvp"),
        ("my_histograms:HistogramsConfig", {"sharp": 1}, "mean `sharpness`? valid keys of my_h"),
        ("my_histograms:HistogramsConfig", {"sharpness": "x"}, " model.sharpness: "),
    ],
)
def test_what_is_wrong_is_named(family, changes, complaint, module: str) -> None:
    with refusal("^mine.yaml:.*" + re.escape(complaint)):
        parse_config(tree_of(family, **changes), "mine.yaml")


def test_a_conditional_model_without_likelihood_is_recorded(module: str, tmp_path: Path) -> None:
    edit('likelihood = "exact"', 'likelihood, num_classes = "none", 3')
    data_root, root = tmp_path / "data", tmp_path / "results"
    tree = tree_of(f"{module}:HistogramsConfig", num_classes=3)
    tiny.write_data(data_root)
    for split, number in (("train", 60), ("test", 30)):
        np.save(data_root / "tiny" / f"{split}_labels.npy", np.arange(number) % 3)
    prepare(parse_config(tree, "mine.yaml"), tmp_path / "run", data_root=data_root).run()
    record.record(tmp_path / "run", data_root=data_root, root=root)
    assert [c.outcome for c in verify.verify(data_root=data_root, root=root)] == ["agrees"] * 3


@pytest.mark.parametrize(
    ("code", "reason"), [("1 / 0", "division by zero"), ("exit(0)", "it ends the program")]
)
def test_a_module_that_fails_is_named(code: str, reason: str, module: str) -> None:
    edit(MODULE, code)
    with refusal(rf"cannot be imported \({reason}\): correct it"):
        parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml")


def test_a_model_that_ends_the_program_has_not_been_trained(module: str, tmp_path: Path) -> None:
    edit("return Histograms(self)", "exit()")
    tiny.write_data(tmp_path)
    config = tiny.write_config(tmp_path / "mine.yaml", tree_of(f"{module}:HistogramsConfig"))
    folders = ("--run-folder", tmp_path / "run", "--data-root", tmp_path)
    assert "take the exit() out" in tiny.fails("train", config, *folders)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("return None", "build() returns NoneType, which is no ImageModel: return the model"),
        ("model.image_shape = (1, 4, 4)", "the model has image_shape (1, 4, 4), its configuration"),
        ("del model.image_shape", "the model has image_shape None, its configuration (1, 8, 8)"),
        ("model.num_classes = 2", "the model has num_classes 2, its configuration 0"),
        ("model.levels = 2", "the model has levels 2, its configuration 256"),
        ("model.layer = nn.LazyLinear(2)", "Histograms has a lazy layer, whose size is not known"),
        ("model.layer = nn.LazyBatchNorm2d(affine=False)", "Histograms has a lazy layer"),
        ("del model.logits", "Histograms has no parameters, so there is nothing to train"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(line: str, complaint: str, module: str) -> None:
    made = f"model = Histograms(self)\n        {line}\n        return model"
    edit("return Histograms(self)", made)
    config = parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml")
    with refusal("^" + re.escape(f"my_histograms:HistogramsConfig: {complaint}")):
        config.build_model()


@pytest.mark.parametrize(
    "line",
    [
        "self.sharpness = float(torch.rand(()))",
        'self.register_buffer("k", torch.rand(()), persistent=False); self.sharpness = self.k',
    ],
)
def test_a_part_that_no_checkpoint_keeps_is_refused(line: str, module: str, tmp_path: Path) -> None:
    """Loaded again it would be another model, and score otherwise than in training."""
    edit("self.logits = nn.Parameter(0.01 *", f"{line}\n        self.logits = nn.Parameter(0 *")
    tiny.write_data(tmp_path / "data")
    config = parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml")
    with refusal(r"build\(\) makes a different model each time"):
        prepare(config, tmp_path / "run", data_root=tmp_path / "data")
    assert not (tmp_path / "run").exists()


def test_weights_may_be_shared(module: str, tmp_path: Path) -> None:
    """One tensor under two names, as with tied embeddings."""
    edit("self.logits = nn.Parameter", "self.tied = self.logits = nn.Parameter")
    run = tiny.train(tmp_path, tree_of(f"{module}:HistogramsConfig"))
    tiny.done(*tiny.going_on(tmp_path, 3))
    scored = {"first": 20, "num_draws": 2, "root": tmp_path / "results"}
    entry = record.record(run, data_root=tmp_path / "data", **scored)
    model = entry.load_model()
    assert model.tied is model.logits
    assert entry.record.parameters == 256 * 64


def test_samples_that_are_no_images_are_one_line(module: str, tmp_path: Path) -> None:
    model = parse_config(tree_of(f"{module}:HistogramsConfig"), "mine.yaml").build_model()
    for drawn, got in (
        (torch.zeros(4, 1, 8, 8), "torch.float32 (4, 1, 8, 8)"),
        (torch.zeros(4, 64).byte(), "torch.uint8 (4, 64)"),
    ):
        model.sample = lambda *_, drawn=drawn, **__: drawn
        with refusal(rf"Histograms\.sample must give uint8 .*{re.escape(got)}: fix the model$"):
            write_samples(model, tmp_path / "a.png", 4)


class MyNVP(RealNVP):
    """A Real NVP of one's own, without a change."""


class MyConfig(RealNVPConfig):
    def build(self) -> RealNVP:
        return MyNVP(self)


@pytest.mark.slow
def test_a_real_nvp_of_ones_own_trains_like_that_of_the_package(root: Path, tmp_path: Path) -> None:
    """Bit for bit, with every setting that asks for the roles of parameters."""
    states = []
    for family in ("realnvp", f"{__name__}:MyConfig"):
        model = {"family": family, "num_blocks": 1}
        training = {"tanh_scale_rate": 10, "optimiser": "muon"}
        config = tiny.configured(tiny.config_tree(), model=model, training=training)
        assert (type(config.build_model()) is RealNVP) == (family == "realnvp")
        prepare(config, tmp_path / family, data_root=root).run()
        states.append(load_tensors(tmp_path / family / "checkpoint.safetensors")[0])
    torch.testing.assert_close(*states, rtol=0, atol=0)


class Counts(Output):
    """How many of levels - 1 coins show heads: logits (..., 1) of one coin."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels, 1)

    def logits(self, parameters: Tensor) -> Tensor:
        counts = torch.arange(self.levels, dtype=parameters.dtype)
        return Binomial(self.levels - 1, logits=parameters).log_prob(counts)

    def log_prob(self, parameters: Tensor, images: Tensor, _: object) -> Tensor:
        return self.logits(parameters).gather(-1, images.long().unsqueeze(-1)).squeeze(-1)

    def draw(self, parameters: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        weights = torch.softmax(self.logits(parameters) / temperature, dim=-1)
        return torch.multinomial(weights, 1, generator=generator).squeeze(-1).to(torch.uint8)


@pytest.mark.parametrize("kind", ["pixelcnn", "diagonal_bilstm"])
def test_a_pixel_rnn_takes_an_output_of_ones_own(kind: str) -> None:
    model = PixelRNN(pixel_config(kind, (3, 3, 4), levels=5))
    model.output = Counts(5)
    model.head = Head(2 * model.config.hidden, model.config.head, 3, model.output)
    check_model(model.double(), noise(4, 3, 3, 4, levels=5))
