"""Time the Pixel RNNs next to plain code: `python -m benchmarks.pixelrnn`.

Writes results_pixelrnn.json and results_pixelrnn.md.
"""

from __future__ import annotations

from typing import Any

from benchmarks import processes
from benchmarks.benchmark import BF16, FP32, PLAIN, Benchmark, Setting, ours, peer
from benchmarks.benchmark import Kind as Timed
from nvp.autoregressive.config import Kind, PixelRNNConfig
from nvp.config import Precision

NETWORKS = {FP32: ours(Precision.FP32), BF16: ours(Precision.BF16)}
BY_OTHERS = {PLAIN: peer("plain_pixelrnn", "PlainPixelRNN")}
UNCOMPILED = {"nvp fp32, scan in PyTorch": ours(Precision.FP32, compiled=False)}


def setting(side: int, lstm: tuple[int, int], pixelcnn: tuple[int, int], **repeats: Any) -> Setting:
    """Binary images of one channel; (layers, h) of both LSTMs and of the PixelCNN."""
    sizes = {Kind.DIAGONAL_BILSTM: lstm, Kind.ROW_LSTM: lstm, Kind.PIXELCNN: pixelcnn}
    models = {
        kind.value: PixelRNNConfig(
            kind=kind, image_shape=(1, side, side), levels=2, num_layers=layers, hidden=hidden
        )
        for kind, (layers, hidden) in sizes.items()
    }
    what = (
        f"{side}x{side}x1, two levels, LSTMs of {lstm[0]} layers and h = {lstm[1]}, "
        f"PixelCNN of {pixelcnn[0]} blocks and h = {pixelcnn[1]}"
    )
    hidden = pixelcnn[1]
    convolutions = ((3, hidden, hidden, side), (1, hidden, 2 * hidden, side))
    return Setting(what, models, convolutions, **repeats)


BENCHMARK = Benchmark(
    name="pixelrnn",
    title="Pixel RNNs next to plain code",
    kinds={
        Kind.DIAGONAL_BILSTM.value: Timed("Diagonal BiLSTM", NETWORKS | UNCOMPILED | BY_OTHERS),
        Kind.ROW_LSTM.value: Timed("Row LSTM", NETWORKS | UNCOMPILED | BY_OTHERS),
        Kind.PIXELCNN.value: Timed("PixelCNN", NETWORKS | BY_OTHERS),
    },
    settings={
        "tiny": setting(7, lstm=(1, 4), pixelcnn=(1, 4), batch=4, rounds=1, steps=1),
        "small": setting(28, lstm=(7, 16), pixelcnn=(15, 32)),
        "small-16": setting(28, lstm=(7, 16), pixelcnn=(15, 32), batch=16),
    },
    everything=("small", "small-16"),
    stem="results_pixelrnn",
    draws_by_pixel=True,
)

if __name__ == "__main__":
    processes.main(BENCHMARK)
