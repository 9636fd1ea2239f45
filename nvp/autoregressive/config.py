"""Every choice that makes one Pixel RNN."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nvp.model.config import Depth, Family, ModelConfig, Width

if TYPE_CHECKING:
    from nvp.autoregressive.multiscale import MultiScalePixelRNN
    from nvp.autoregressive.pixelrnn import PixelRNN


class Kind(StrEnum):
    """Which layers stand between the mask A convolution and the head (Table 1)."""

    PIXELCNN = "pixelcnn"
    ROW_LSTM = "row_lstm"
    DIAGONAL_BILSTM = "diagonal_bilstm"


class OutputKind(StrEnum):
    """How the head describes one sub-pixel (section 5.3 of the paper compares the two).

    DISCRETE is a softmax over the levels, a sigmoid where there are two. MIXTURE is a density: a
    mixture of Gaussian scale mixtures over the dequantised value.
    """

    DISCRETE = "discrete"
    MIXTURE = "mixture"


Kernel = Annotated[int, Field(ge=3, le=63)]  # the side of a convolution's kernel, odd


class PixelRNNConfig(ModelConfig, family="pixelrnn"):
    """The layer list of Table 1: mask A convolution, `num_layers` layers, two 1x1s, output.

    `hidden` is the paper's h: there are 2h feature maps between layers. `head` is the number of
    feature maps of the two 1x1 convolutions before the output, 32 for MNIST and 1024 for the other
    sets. Forget gates start with a bias of 1, of which the paper says nothing.
    """

    num_classes: Literal[0] = 0
    kind: Kind
    num_layers: Depth
    hidden: Width
    head: Width = 32
    first_kernel: Kernel = 7  # of the mask A convolution; a kernel is odd, from 3 to 63
    kernel_size: Kernel = 3  # k of the Row LSTM, side of PixelCNN's masked convolutions
    residual: bool = True  # Figure 5
    skip: bool = True  # section 3.3: from every layer to the head
    # The probability that one of a layer's h maps is dropped in training; not in the paper.
    dropout: float = Field(default=0.0, ge=0, lt=1)
    output: OutputKind = OutputKind.DISCRETE
    num_components: Depth = 8  # of the mixture
    # Standard deviations of each component, not sizes of the image. A ninth would start below the
    # least that the mixture allows, and get no gradient.
    num_scales: int = Field(default=4, ge=1, le=8)

    @model_validator(mode="after")
    def _fits_together(self) -> PixelRNNConfig:
        idle = {}
        if self.output != OutputKind.MIXTURE:
            idle = dict.fromkeys(("num_components", "num_scales"), "model.output: mixture")
        if self.kind == Kind.DIAGONAL_BILSTM:
            idle["kernel_size"] = "the other kinds: a Diagonal BiLSTM's are 1x1 and 2x1"
        for name, whose in idle.items():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for {whose}; leave it out")
        for name in ("first_kernel", "kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, so that a kernel has a centre")
        if self.image_shape[0] not in (1, 3):
            raise ValueError("image_shape must have 1 or 3 channels: grey, or red, green and blue")
        if min(self.hidden, self.head) < self.image_shape[0]:
            raise ValueError("hidden and head must be at least 3, so that every colour has a map")
        return self

    def build(self) -> PixelRNN:
        from nvp.autoregressive.pixelrnn import PixelRNN  # which is made from this class

        return PixelRNN(self)


class MultiScaleConfig(Family, family="multiscale_pixelrnn"):
    """Section 3.6: an unconditional PixelRNN draws a small image, a conditional one the full one.

    `small` models every `factor`-th row and column. `large` sees that image upsampled by `factor` =
    2^k, by convolutions and k deconvolutions of `width` maps.
    """

    num_classes: ClassVar[int] = 0
    small: PixelRNNConfig
    large: PixelRNNConfig
    width: Width = 32

    def build(self) -> MultiScalePixelRNN:
        from nvp.autoregressive.multiscale import MultiScalePixelRNN  # which is made from this

        return MultiScalePixelRNN(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the full image."""
        return self.large.image_shape

    @property
    def levels(self) -> int:
        """Number of values of a sub-pixel."""
        return self.large.levels

    @property
    def factor(self) -> int:
        """The side of the full image over that of the small one."""
        return self.large.image_shape[1] // self.small.image_shape[1]

    @model_validator(mode="after")
    def _sizes_agree(self) -> MultiScaleConfig:
        channels, height, width = self.small.image_shape
        factor = self.factor
        enlarged = (channels, factor * height, factor * width)
        is_power = factor >= 2 and factor & (factor - 1) == 0
        if not is_power or enlarged != self.large.image_shape:
            raise ValueError(
                f"small.image_shape {list(self.small.image_shape)} must be large.image_shape "
                f"{list(self.large.image_shape)} with both sides halved one or more times"
            )
        if self.small.levels != self.large.levels:
            raise ValueError("small.levels and large.levels must be the same")
        return self
