"""A Real NVP assembled from the parts of normflows, as near to the paper's as these allow.

Where it has to differ:

* `MaskedAffineFlow` wants two networks, one for s and one for t: each gets three quarters of the
  maps, so that together they cost about as much as our one (the run prints both);
* the networks are its `ConvResidualNet`: 1x1 first and last convolutions, no weight norm, no skips
  to the output, no concatenated ReLU, no mask channel;
* its `AffineCouplingBlock` has no tanh around s (the masked flow gets one here);
* its batch norm has no inverse: `ActNorm`, Glow's substitute, follows each coupling instead;
* there is no unsqueeze before factoring out: the halves that leave are other pixels.
"""

import math

import normflows as nf
import torch
from normflows.nets.resnet import ConvResidualNet
from torch import Tensor, nn

from nvp.flows.config import RealNVPConfig


def net(inputs: int, outputs: int, width: int, blocks: int) -> nn.Module:
    made = ConvResidualNet(inputs, outputs, width, num_blocks=blocks, use_batch_norm=True)
    # A flow that starts as the identity: without a bound on s, another start can overflow.
    nn.init.zeros_(made.final_layer.weight)
    nn.init.zeros_(made.final_layer.bias)
    return made


class LibraryRealNVP(nn.Module):
    def __init__(self, config: RealNVPConfig) -> None:
        super().__init__()
        levels = [level(config, index) for index in range(config.num_scales)]
        channels, height, width = config.image_shape
        latents = []
        for index in range(config.num_scales):
            # Scale k < L leaves half of 4 (2^k C) channels, at half of its sides.
            factor = 2 ** min(index + 1, config.num_scales - 1)
            shape = (channels * factor, height // factor, width // factor)
            latents.append(nf.distributions.DiagGaussian(shape, trainable=False))
        merges = [nf.flows.Merge() for _ in range(config.num_scales - 1)]
        # The library counts levels from the coarsest.
        self.flow = nf.MultiscaleFlow(
            latents[::-1], levels[::-1], merges, nf.transforms.Logit(0.05), class_cond=False
        )
        self.num_dimensions = math.prod(config.image_shape)

    def log_prob(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> a lower bound on log P, (N,), nats."""
        x = (images + torch.rand(images.shape)) / 256
        return self.flow.log_prob(x, None) - self.num_dimensions * math.log(256)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """uint8 images, (n, C, H, W)."""
        x, _ = self.flow.sample(n)
        return (256 * x).clamp(0, 255).to(torch.uint8)


def level(config: RealNVPConfig, index: int) -> list[nn.Module]:
    """The flows of one scale, in the library's order: from the latents to the data."""
    factor = 2**index
    channels, height, width = config.image_shape
    channels, height, width = channels * factor, height // factor, width // factor
    maps, blocks = config.width * factor, config.num_blocks
    squares = torch.arange(height)[:, None] + torch.arange(width)
    last = index == config.num_scales - 1
    flows: list[nn.Module] = []
    for i in range(4 if last else 3):
        mask = ((squares + i) % 2).expand(channels, -1, -1).float()
        s = nn.Sequential(net(channels, channels, 3 * maps // 4, blocks), nn.Tanh())
        t = net(channels, channels, 3 * maps // 4, blocks)
        flows += [nf.flows.MaskedAffineFlow(mask, t, s), nf.flows.ActNorm((channels, 1, 1))]
    if not last:
        flows.append(nf.flows.Squeeze())
        for i in range(3):
            params = net(2 * channels, 4 * channels, 2 * maps, blocks)
            split = "channel_inv" if i % 2 else "channel"
            flows.append(nf.flows.AffineCouplingBlock(params, split_mode=split))
            flows.append(nf.flows.ActNorm((4 * channels, 1, 1)))
    return flows[::-1]
