"""Every choice that makes one Real NVP, and the presets of paper and official code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from nvp.flows.batchnorm import NormScope
from nvp.flows.coupling import AffineOrder
from nvp.flows.masks import Parity
from nvp.flows.preprocess import LogitForm
from nvp.flows.prior import PriorName
from nvp.flows.squeeze import SqueezeOrder
from nvp.model.config import ModelConfig, Width

if TYPE_CHECKING:
    from nvp.flows.realnvp import RealNVP


class RealNVPConfig(ModelConfig, family="realnvp"):
    """Every choice that makes one Real NVP. `paper` and `official` are the two faithful presets.

    The key `preset` of a file names one of them; other keys change its fields. The comments
    below group the fields. The book's appendix "Paper against official code" measures the effect of
    most in which the two differ.
    """

    levels: Literal[256] = 256
    # Sizes
    num_scales: int = Field(default=2, ge=1, le=12)
    num_blocks: int = Field(default=2, ge=0, le=256)  # residual blocks of s and t
    # Maps of these blocks in the first checkerboard couplings. Channel-wise couplings, and the next
    # scale, have twice as many.
    width: Width = 32
    # Where paper and official code differ, or the paper is silent; but for alpha
    affine_order: AffineOrder = AffineOrder.SCALE_THEN_SHIFT
    first_kept: Parity = Parity.ODD  # squares with b = 1 in the first coupling of a scale
    channel_squeeze: SqueezeOrder = SqueezeOrder.POSITION_MAJOR  # before channel-wise couplings
    factor_out_squeeze: SqueezeOrder = SqueezeOrder.DIAGONAL  # before half of the maps leave
    norm_scope: NormScope | None = NormScope.WHOLE  # of the norm after each coupling; null: none
    norm_running_average: bool = False  # those norms train by running averages (appendix E)
    norm_momentum: float = Field(default=0.1, gt=0, le=1)  # 1 - rho, of those norms alone
    logit: LogitForm = LogitForm.SYMMETRIC
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # the margin of the logit
    # A learned scale of the tanh for each channel. In a channel-wise coupling, half of them have no
    # effect: those of the kept channels.
    scale_per_channel: bool = False
    checkerboard_scale_init: float = 0.0  # of the learned scale of the tanh, section 4.1
    channel_scale_init: float = 1.0
    concatenated_relu: bool = True  # the nets see h and -h, rectified
    mask_channel: bool = True  # and b, as one more map, if it is a checkerboard
    penalise_channel_scales: bool = True  # the L2 penalty includes tanh scales of channel couplings
    undo_data_constraint: bool = True  # in samples; the official code leaves the margin in
    # In `sample`, the norms inside s and t use the statistics of the sampled images.
    sample_batch_statistics: bool = False
    # Parts that both have; only the ablation leaves them out
    weight_norm: bool = True
    skips: bool = True
    # Given in section 4.1
    weight_scale_l2: float = Field(default=5e-5, ge=0)  # times the squares of gains and tanh scales
    prior: PriorName = PriorName.GAUSSIAN

    def build(self) -> RealNVP:
        from nvp.flows.realnvp import RealNVP  # which is made from this class

        return RealNVP(self)

    @classmethod
    def keys(cls) -> list[str]:
        return ["preset", *super().keys()]

    @classmethod
    def paper(cls, image_shape: tuple[int, int, int], **fields: Any) -> Self:
        """The model as the paper describes it.

        Where the paper is silent the official code fills in, except for `first_kept`,
        `channel_squeeze`, `undo_data_constraint` and `sample_batch_statistics`, which are ours.
        `penalise_channel_scales` is our reading of section 4.1. Two fields depart from the paper.
        The logit is the code's symmetric form, since the printed one is unbounded at white
        (`logit="paper"` gives it). Norms take the moments of each batch, where appendix E has
        running averages for CIFAR-10: `norm_running_average` gives them to the norms after
        couplings, not to those inside s and t.

        Scales, blocks and maps follow the height. At 64 there are 5 scales, 2 blocks and 32 maps;
        at 32 there are 2, 8 and 64, the paper's for CIFAR-10 (configs/imagenet32.yaml sets those of
        ImageNet). Any other height has 2, 2 and 32, few for large images: the paper names no blocks
        and maps, and its scales would end at 4x4 pixels.
        """
        return cls.model_validate({"preset": "paper", "image_shape": image_shape, **fields})

    @classmethod
    def official(cls, image_shape: tuple[int, int, int], **fields: Any) -> Self:
        """The official code, quirks included; sizes as in `paper`, but 4 blocks at height 64."""
        return cls.model_validate({"preset": "official", "image_shape": image_shape, **fields})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, tree: Any) -> Any:
        """The preset's fields, and over them those that `tree` sets itself."""
        if not isinstance(tree, dict) or "preset" not in tree:
            return tree
        changes = dict(tree)
        preset, shape = changes.pop("preset"), tree.get("image_shape")
        if preset not in get_args(Preset):
            raise ValueError(f"preset must be paper or official, got {preset!r}")
        if "image_shape" not in tree:
            return changes  # which is refused: image_shape is missing, or misspelt as another key
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            raise ValueError(
                f"image_shape must be [channels, height, width], such as [1, 28, 28], got {shape!r}"
            )
        return {**preset_fields(preset, (shape[0], shape[1], shape[2])), **changes}

    @model_validator(mode="after")
    def _fits_together(self) -> RealNVPConfig:
        for name in ("norm_running_average", "norm_momentum"):
            differs = getattr(self, name) != type(self).model_fields[name].default
            if self.norm_scope is None and differs:
                raise ValueError(f"{name} needs norms: set norm_scope")
        _, height, width = self.image_shape
        factor = 2 ** (self.num_scales - 1)
        if height % factor or width % factor:
            raise ValueError(
                f"num_scales = {self.num_scales} halves the sides {self.num_scales - 1} times, "
                f"but {height}x{width} is not divisible by {factor}: use fewer scales or pad "
                "(image_shape is [channels, height, width])"
            )
        return self


Preset = Literal["paper", "official"]


def preset_fields(preset: Preset, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The fields that a preset sets; the others keep their defaults.

    `RealNVPConfig.paper` describes the sizes. Section 4.1 gives no number of maps for 64x64: we
    read the 32 maps of ImageNet 32x32 as meant for both.
    """
    paper: dict[str, Any] = {"num_scales": 2, "num_blocks": 2, "width": 32}
    if image_shape[1] == 64:
        paper["num_scales"] = 5
    elif image_shape[1] == 32:
        paper |= {"num_blocks": 8, "width": 64}
    if preset == "paper":
        return paper
    if image_shape[1] == 64:
        paper["num_blocks"] = 4  # the commands of the code's README; the paper says 2
    return {
        **paper,
        "affine_order": AffineOrder.SHIFT_THEN_SCALE,
        "first_kept": Parity.EVEN,
        "channel_squeeze": SqueezeOrder.CHANNEL_MAJOR,
        "norm_scope": NormScope.OFFICIAL,
        "penalise_channel_scales": False,
        "undo_data_constraint": False,
        "sample_batch_statistics": True,
    }
