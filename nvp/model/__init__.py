"""The protocol of all models of images, labels, dequantisation, and models of one's own."""

from nvp.model.config import ModelConfig
from nvp.model.protocol import ImageModel, batch_norms, batch_statistics

__all__ = ["ImageModel", "ModelConfig", "batch_norms", "batch_statistics"]
