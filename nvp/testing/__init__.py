"""Checks that hold for any bijection and any model of images: what this project asks of its own.

`check_bijection` and `check_model` raise `AssertionError` with a line that says what is wrong. They
work on copies, and leave what they check as it was.
"""

from nvp.testing.bijection import check_bijection
from nvp.testing.model import check_model, fill_by_definition

__all__ = ["check_bijection", "check_model", "fill_by_definition"]
