"""Flows: bijections with a log-determinant, and Real NVP made of them."""
