"""Real NVP for images: the multi-scale flow of section 3.6, and the model around it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.flows.batchnorm import CouplingBatchNorm
from nvp.flows.bijection import Bijection, Composition
from nvp.flows.config import RealNVPConfig
from nvp.flows.coupling import AffineCoupling, ChannelCoupling, CheckerboardCoupling
from nvp.flows.masks import Half, Parity
from nvp.flows.preprocess import Logit
from nvp.flows.resnet import CouplingNet, InputTreatment, TrunkNet, remove_weight_norm
from nvp.flows.squeeze import squeeze, unsqueeze
from nvp.model.autocast import full_float32
from nvp.model.dequantisation import LEVELS, as_levels, dequantise, quantise, uniform_noise
from nvp.model.protocol import ImageModel, batch_statistics, check_temperature, check_tensor
from nvp.model.roles import Role, parameter_roles


class Scale(Bijection):
    """One scale of section 3.6: three checkerboard couplings, a squeeze, three channel-wise ones.

    The last scale has four checkerboard couplings and no squeeze. Scale `index`, from 0, maps
    (N, 2^index C, H/2^index, W/2^index) to the same shape: the squeeze is undone at the end.
    """

    def __init__(self, config: RealNVPConfig, index: int) -> None:
        super().__init__()
        channels = config.image_shape[0] * 2**index
        width = config.width * 2**index
        last = index == config.num_scales - 1
        parity, other = config.first_kept, config.first_kept.other
        parities = [parity, other, parity, other] if last else [parity, other, parity]
        halves = [] if last else [Half.FIRST, Half.SECOND, Half.FIRST]
        self.checkerboard = Composition(
            _coupling(config, kept, channels, width) for kept in parities
        )
        # Half the resolution, twice the maps, as in the official code.
        self.channelwise = Composition(
            _coupling(config, kept, 4 * channels, 2 * width) for kept in halves
        )
        self.squeeze_order = config.channel_squeeze
        self.last = last

    def extra_repr(self) -> str:
        return "no squeeze" if self.last else f"squeeze={self.squeeze_order}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, log_det = self.checkerboard(x, y)
        if self.last:
            return h, log_det
        h, step = self.channelwise(squeeze(h, self.squeeze_order), y)
        return unsqueeze(h, self.squeeze_order), log_det + step

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        if not self.last:
            z, log_det = self.channelwise.inverse(squeeze(z, self.squeeze_order), y)
            z = unsqueeze(z, self.squeeze_order)
        x, step = self.checkerboard.inverse(z, y)
        return x, log_det + step


def _coupling(
    config: RealNVPConfig, kept: Parity | Half, channels: int, width: int
) -> AffineCoupling:
    parity = kept if isinstance(kept, Parity) else None
    seen = channels if parity else channels // 2
    treatment = InputTreatment(
        seen,
        parity,
        concatenated_relu=config.concatenated_relu,
        mask_channel=config.mask_channel,
        num_classes=config.num_classes,
    )
    kind = CouplingNet if config.skips else TrunkNet
    net = kind(treatment, seen, width, config.num_blocks)
    if not config.weight_norm:
        remove_weight_norm(net)
    norm = None
    if config.norm_scope is not None:
        norm = CouplingBatchNorm(
            channels,
            config.norm_scope,
            momentum=config.norm_momentum,
            running_average=config.norm_running_average,
        )
    coupling: type[AffineCoupling] = CheckerboardCoupling if parity else ChannelCoupling
    return coupling(
        kept,
        net,
        scale_init=config.checkerboard_scale_init if parity else config.channel_scale_init,
        scale_channels=channels if config.scale_per_channel else 1,
        order=config.affine_order,
        norm=norm,
    )


class MultiScaleFlow(Bijection):
    """f of section 3.6: each scale but the last factors out half of the dimensions (eqs 13 to 16).

    z is in image layout: each scale's latents stand where its squeeze took them from.
    """

    def __init__(self, config: RealNVPConfig) -> None:
        super().__init__()
        scales = nn.ModuleList(Scale(config, i) for i in range(config.num_scales))
        self.scales = cast(Sequence[Scale], scales)
        self.order = config.factor_out_squeeze

    def extra_repr(self) -> str:
        return f"factor_out={self.order}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, log_det = x, x.new_zeros(len(x))
        factored_out = []
        for scale in self.scales:
            h, step = scale(h, y)
            log_det = log_det + step
            if scale is not self.scales[-1]:
                h, z = squeeze(h, self.order).chunk(2, dim=1)
                factored_out.append(z)
        return self.merge([*factored_out, h]), log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *factored_out, h = self.split(z)
        log_det = z.new_zeros(len(z))
        for scale in reversed(self.scales):
            if scale is not self.scales[-1]:
                h = unsqueeze(torch.cat([h, factored_out.pop()], dim=1), self.order)
            h, step = scale.inverse(h, y)
            log_det = log_det + step
        return h, log_det

    def split(self, z: Tensor) -> list[Tensor]:
        """z in image layout -> [z^1, ..., z^L] of eq 16.

        z^k is (N, 2^k C, H/2^k, W/2^k) for k < L, and z^L has the shape of z^(L-1).
        """
        latents = []
        for _ in range(len(self.scales) - 1):
            z, factored_out = squeeze(z, self.order).chunk(2, dim=1)
            latents.append(factored_out)
        return [*latents, z]

    def merge(self, latents: list[Tensor]) -> Tensor:
        """The inverse of `split`."""
        *factored_out, z = latents
        for latent in reversed(factored_out):
            z = unsqueeze(torch.cat([z, latent], dim=1), self.order)
        return z


class RealNVP(ImageModel):
    """Density estimation using Real NVP: dequantise, logit, flow, prior.

    log P(v) >= E_u[log p_Z(f(x)) + log|det df/dx| + log|dx/dx~|] - D log 256 for an image v, where
    x~ = (v + u) / 256, u ~ U[0, 1), and x = logit(alpha + (1 - 2 alpha) x~), or the paper's form
    of it: eq 3 with every constant of section 4.1 counted. Its parts are `logit`, `flow` (a
    `MultiScaleFlow`) and `prior`.

    With `config.num_classes` = K the model is conditional (appendix F): it needs `labels` to score,
    sample, encode and decode. Encoding with one label and decoding with another changes the
    property of the image that the label names.

    >>> model = RealNVP(RealNVPConfig.paper((1, 28, 28), num_scales=2, num_blocks=2, width=32))
    >>> nats = model.eval().log_prob(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
    """

    likelihood = "bound"

    def __init__(self, config: RealNVPConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.num_classes = config.num_classes
        self.logit = Logit(config.logit, config.alpha)
        self.flow = MultiScaleFlow(config)
        self.prior = config.prior.build()

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        for _ in range(num_draws):
            logits, logit_log_det = self._logits(images, generator)
            z, flow_log_det = self.flow(logits, y)
            change = logit_log_det + flow_log_det - self.num_dimensions * math.log(LEVELS)
            yield self.prior.log_prob(z) + change

    def loss(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Mean nats per image, plus the L2 penalty on the weight scales (section 4.1)."""
        return super().loss(images, generator, labels=labels) + self.weight_scale_penalty()

    def weight_scale_penalty(self) -> Tensor:
        """`weight_scale_l2` times the sum of squares of weight-norm gains and scales of tanh.

        Without `config.penalise_channel_scales` the scales of channel-wise couplings are left out.
        """
        roles = parameter_roles(self)
        if not self.config.penalise_channel_scales:
            for module in self.modules():
                if isinstance(module, ChannelCoupling):
                    for scale in module.parameters(recurse=False):
                        del roles[scale]
        scales = [p.flatten() for p, role in roles.items() if role in (Role.GAIN, Role.TANH_SCALE)]
        none = torch.zeros(0, device=self.device)  # a flow of other couplings may have no scales
        return self.config.weight_scale_l2 * torch.cat([none, *scales]).square().sum()

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """x = g(temperature z), z ~ p_Z: uint8, (n, C, H, W).

        With `config.sample_batch_statistics`, as in the official code, the norms inside s and t
        use the statistics of these n images, and their running averages stay. Without it, call
        `eval()` first, so that they use their running averages. In training mode they would use,
        and store, the statistics of these images. The norms of the couplings' outputs always use
        running averages.
        """
        self.condition(labels, n)
        check_temperature(temperature)
        z = temperature * self.prior.sample((n, *self.image_shape), generator)
        with batch_statistics(self) if self.config.sample_batch_statistics else nullcontext():
            return self.decode(z, labels=labels)

    @full_float32()  # with the rounding of TF32, `decode` would not undo this
    def encode(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z = f(x) for the logits x of noisy images, in image layout, (N, C, H, W). uint8 in.

        Call `eval()` first: in training mode the norms use, and store, the statistics of the batch.
        Raises `NVPError` for images or labels that do not fit.
        """
        self.check_precision()
        logits, _ = self._logits(self.check_images(images), generator)
        return self.flow(logits, self.condition(labels, len(images)))[0]

    @torch.no_grad()
    @full_float32()
    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """The image v of x = g(z), uint8, (N, C, H, W); z in image layout, at any size.

        Without `config.undo_data_constraint` the logit's alpha is not undone, as in the official
        code: images then have less contrast. Call `eval()` first, as for `sample`. Raises
        `NVPError` for labels that do not fit, and for sides that the scales cannot halve.
        """
        self._check_latents(z)
        y = self.condition(labels, len(z))
        logits, _ = self.flow.inverse(z.to(self.device, self.dtype), y)
        if self.config.undo_data_constraint:
            return quantise(self.logit.inverse(logits)[0])
        return as_levels(torch.sigmoid(logits) * 255)  # rounded down, as in the official code

    def latents_by_scale(self, z: Tensor) -> list[Tensor]:
        """z in image layout -> [z^1 (finest), ..., z^L (coarsest)] of eq 16."""
        self._check_latents(z)
        return self.flow.split(z)

    def _logits(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """x, the input of the flow, for one set of noise, and log|dx/dx~|, (N,), nats."""
        return self.logit(dequantise(images, uniform_noise(images.shape, generator, self.dtype)))

    def _check_latents(self, z: Tensor) -> None:
        check_tensor("z", z)
        channels, factor = self.image_shape[0], 2 ** (self.config.num_scales - 1)
        fits = z.ndim == 4 and z.shape[1] == channels and all(s % factor == 0 for s in z.shape[2:])
        if not fits:
            raise NVPError(
                f"z must be (N, {channels}, H, W) with sides divisible by {factor}, as "
                f"model.num_scales = {self.config.num_scales} halves them, got {tuple(z.shape)}: "
                "crop or pad it"
            )
