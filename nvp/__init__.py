"""Real NVP and Pixel RNN, equation by equation."""

from nvp.autoregressive.config import MultiScaleConfig, PixelRNNConfig
from nvp.autoregressive.multiscale import MultiScalePixelRNN
from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.flows.realnvp import RealNVP, RealNVPConfig

__all__ = [
    "MultiScaleConfig",
    "MultiScalePixelRNN",
    "PixelRNN",
    "PixelRNNConfig",
    "RealNVP",
    "RealNVPConfig",
]
