"""The tables of the book, rendered from the ledger and from published figures."""
