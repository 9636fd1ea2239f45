"""Real NVP and Pixel RNN, equation by equation, and what they are compared with."""

from nvp.autoregressive.config import MultiScaleConfig, PixelRNNConfig
from nvp.autoregressive.multiscale import MultiScalePixelRNN
from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.baselines.diffusion import Diffusion, DiffusionConfig
from nvp.baselines.gan import GAN, GANConfig
from nvp.baselines.gaussian import Gaussian, GaussianConfig
from nvp.baselines.vae import VAE, VAEConfig
from nvp.flows.config import RealNVPConfig
from nvp.flows.realnvp import RealNVP

__version__ = "0.2.0"

__all__ = [
    "GAN",
    "VAE",
    "Diffusion",
    "DiffusionConfig",
    "GANConfig",
    "Gaussian",
    "GaussianConfig",
    "MultiScaleConfig",
    "MultiScalePixelRNN",
    "PixelRNN",
    "PixelRNNConfig",
    "RealNVP",
    "RealNVPConfig",
    "VAEConfig",
]
