"""This project against its peers: `python -m benchmarks.realnvp` and `.pixelrnn`."""
