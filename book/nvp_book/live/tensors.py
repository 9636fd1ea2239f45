"""Weights and bytes as text, for a page; tensors.js reads them."""

import base64

import safetensors.torch
import torch
from torch import nn

from nvp.model.config import ModelConfig
from nvp.runs.tensors import halved


def weights_text(network: nn.Module, config: ModelConfig) -> str:
    """A network and its configuration as a safetensors file, in base 64; parameters in float16."""
    tensors = {
        name: (each if each.dtype is torch.float16 else each.float()).cpu().contiguous()
        for name, each in halved(network).items()
    }
    return base64_text(safetensors.torch.save(tensors, {"config": config.model_dump_json()}))


def base64_text(data: bytes) -> str:
    """The same bytes as text."""
    return base64.b64encode(data).decode()
