"""Checks that hold for any bijection and any model of images: what this project asks of its own."""

from nvp.testing.bijection import check_bijection
from nvp.testing.model import check_model, fill_by_definition

__all__ = ["check_bijection", "check_model", "fill_by_definition"]
