"""Real NVP and Pixel RNN, equation by equation."""

from nvp.flows.realnvp import RealNVP, RealNVPConfig

__all__ = ["RealNVP", "RealNVPConfig"]
