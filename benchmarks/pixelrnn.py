"""Time the Pixel RNNs next to plain code: `python -m benchmarks.pixelrnn`.

Writes results_pixelrnn.json and results_pixelrnn.md.
"""

from typing import Any

from benchmarks import processes
from benchmarks.benchmark import BF16, FP32, PLAIN, Benchmark, Setting, TimedKind, ours, peer
from nvp.autoregressive.config import Kind, PixelRNNConfig
from nvp.config import Precision

NETWORKS = {FP32: ours(Precision.FP32), BF16: ours(Precision.BF16)}
BY_OTHERS = {PLAIN: peer("plain_pixelrnn", "PlainPixelRNN")}
UNCOMPILED = {"nvp fp32, scan in PyTorch": ours(Precision.FP32, compiled=False)}


def setting(
    image_shape: tuple[int, int, int],
    levels: int,
    lstm: tuple[int, int],
    pixelcnn: tuple[int, int],
    *,
    head: int = 32,
    **repeats: Any,
) -> Setting:
    """(layers, h) of both LSTMs and of the PixelCNN; all have `head` maps before the output."""
    sizes = {Kind.DIAGONAL_BILSTM: lstm, Kind.ROW_LSTM: lstm, Kind.PIXELCNN: pixelcnn}
    models = {
        kind.value: PixelRNNConfig(
            kind=kind,
            image_shape=image_shape,
            levels=levels,
            num_layers=layers,
            hidden=hidden,
            head=head,
        )
        for kind, (layers, hidden) in sizes.items()
    }
    channels, height, width = image_shape
    what = (
        f"{height}x{width}x{channels}, {levels} levels, LSTMs of {lstm[0]} layers and "
        f"h = {lstm[1]}, PixelCNN of {pixelcnn[0]} blocks and h = {pixelcnn[1]}"
    )
    hidden = pixelcnn[1]
    convolutions = ((3, hidden, hidden, width), (1, hidden, 2 * hidden, width))
    return Setting(what, models, convolutions, **repeats)


BENCHMARK = Benchmark(
    name="pixelrnn",
    title="Pixel RNNs next to plain code",
    kinds={
        Kind.DIAGONAL_BILSTM.value: TimedKind("Diagonal BiLSTM", NETWORKS | UNCOMPILED | BY_OTHERS),
        Kind.ROW_LSTM.value: TimedKind("Row LSTM", NETWORKS | UNCOMPILED | BY_OTHERS),
        Kind.PIXELCNN.value: TimedKind("PixelCNN", NETWORKS | BY_OTHERS),
    },
    settings={
        "tiny": setting((1, 7, 7), 2, lstm=(1, 4), pixelcnn=(1, 4), batch=4, rounds=1, steps=1),
        "small": setting((1, 28, 28), 2, lstm=(7, 16), pixelcnn=(15, 32)),
        "small-16": setting((1, 28, 28), 2, lstm=(7, 16), pixelcnn=(15, 32), batch=16),
        "cifar10": setting(
            (3, 32, 32), 256, lstm=(6, 48), pixelcnn=(15, 48), head=128, batch=16, rounds=2
        ),
    },
    stem="results_pixelrnn",
    draws_by_pixel=True,
)

if __name__ == "__main__":
    processes.main(BENCHMARK)
