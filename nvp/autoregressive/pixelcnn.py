"""The residual block of the PixelCNN: section 3.5 and Figure 5, left."""

from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups


class PixelCNNBlock(nn.Module):
    """ReLU, 1x1 (2h -> h), ReLU, masked k x k (h -> h), ReLU: (N, 2h, H, W) -> (N, h, H, W).

    The 1x1 back to 2h and the sum with the input are in `ResidualLayer`, as for the LSTMs. All
    masks are B, also those of the 1x1s, since the features belong to colours.
    """

    def __init__(self, features: int, hidden: int, num_colours: int, kernel_size: int) -> None:
        super().__init__()
        wide, narrow = colour_groups(features, num_colours), colour_groups(hidden, num_colours)
        self.reduce = MaskedConv2d("B", wide, narrow)
        self.conv = MaskedConv2d("B", narrow, narrow, (kernel_size, kernel_size))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`bias`, (N, h, H, W), is added to the masked convolution's map.

        Section 3.6 biases the input-to-state map of an LSTM. For the PixelCNN the place is ours.
        """
        y = self.conv(F.relu(self.reduce(F.relu(x))))
        return F.relu(y if bias is None else y + bias)
