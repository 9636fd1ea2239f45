"""The tables of the book, rendered from the ledger and from published figures."""

from nvp.tables.cells import Table, score_cell

__all__ = ["Table", "score_cell"]
