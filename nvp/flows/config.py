"""Every choice that makes one Real NVP, and the presets of paper and official code."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from nvp.flows.batchnorm import NormScope
from nvp.flows.coupling import AffineOrder
from nvp.flows.masks import Parity
from nvp.flows.preprocess import LogitForm
from nvp.flows.prior import PriorName
from nvp.flows.squeeze import SqueezeOrder


class RealNVPConfig(BaseModel):
    """Every choice that makes one Real NVP. `paper` and `official` are the two faithful presets.

    Fields under "where they differ" are those in which paper and official code disagree, or in
    which the paper is silent; the book's chapter on the two measures what each is worth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: Literal["realnvp"] = "realnvp"
    # Sizes
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    num_scales: int = Field(2, ge=1)
    num_blocks: int = Field(2, ge=0)
    width: int = Field(32, ge=1)
    # Where they differ
    affine_order: AffineOrder = AffineOrder.SCALE_THEN_SHIFT
    first_kept: Parity = Parity.ODD
    channel_squeeze: SqueezeOrder = SqueezeOrder.POSITION_MAJOR
    factor_out_squeeze: SqueezeOrder = SqueezeOrder.DIAGONAL
    norm_scope: NormScope | None = NormScope.WHOLE
    norm_running_average: bool = False
    norm_momentum: float = Field(0.1, gt=0, le=1)
    logit: LogitForm = LogitForm.SYMMETRIC
    alpha: float = Field(0.05, gt=0, lt=0.5)
    scale_per_channel: bool = False
    checkerboard_scale_init: float = 0.0
    channel_scale_init: float = 1.0
    concatenated_relu: bool = True
    mask_channel: bool = True
    penalise_channel_scales: bool = True
    undo_data_constraint: bool = True
    sample_batch_statistics: bool = False  # the nets' own norms, when images are drawn
    # Parts that both have; only the ablation leaves them out
    weight_norm: bool = True
    skips: bool = True
    # Free choices of the paper
    weight_scale_l2: float = Field(5e-5, ge=0)
    prior: PriorName = PriorName.GAUSSIAN
    num_classes: int = Field(0, ge=0)  # length of y, what s and t are told (appendix F); 0: no y

    @classmethod
    def paper(cls, image_shape: tuple[int, int, int], **sizes_and_changes: Any) -> RealNVPConfig:
        """The model as the paper describes it; the official code fills in where it is silent.

        One exception: the logit is the code's symmetric form, since the printed one is infinite
        at white (`logit="paper"` gives it). Sizes default to the paper's: of 32x32 to those for
        CIFAR-10, where ImageNet has others (configs/imagenet32.yaml).
        """
        fields = preset_fields("paper", image_shape)
        return cls(image_shape=image_shape, **{**fields, **sizes_and_changes})

    @classmethod
    def official(cls, image_shape: tuple[int, int, int], **sizes_and_changes: Any) -> RealNVPConfig:
        """The model of the authors' code, quirks included (the book's chapter lists them)."""
        fields = preset_fields("official", image_shape)
        return cls(image_shape=image_shape, **{**fields, **sizes_and_changes})

    @model_validator(mode="after")
    def _sides_divide(self) -> RealNVPConfig:
        _, height, width = self.image_shape
        factor = 2 ** (self.num_scales - 1)
        if height % factor or width % factor:
            raise ValueError(
                f"num_scales = {self.num_scales} halves the sides {self.num_scales - 1} times, "
                f"but {height}x{width} is not divisible by {factor}: use fewer scales or pad"
            )
        return self


Preset = Literal["paper", "official"]


def preset_fields(preset: Preset, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The fields that a preset sets; the others keep their defaults.

    Blocks, maps and scales are those of section 4.1; for 28x28 our own, the paper has no such set.
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
