"""This project against its peers, timed in one run: `python -m benchmarks.realnvp`."""
