"""Recorded runs: entering, reading, verifying and reopening them."""

from nvp.ledger.entry import runs

__all__ = ["runs"]
