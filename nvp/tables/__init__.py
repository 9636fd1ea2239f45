"""The tables of the book, rendered from the ledger and from published figures."""

from nvp.tables.cells import Table, recorded

__all__ = ["Table", "recorded"]
