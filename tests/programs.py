"""Programs that some tests need, beside Python: Chromium and Node.js."""

import os
from typing import NoReturn

import pytest


def missing(program: str) -> NoReturn:
    """Skip the test; fail it where NVP_REQUIRE_BROWSER=1 says that the program has to be there."""
    reason = f"{program} is not installed"
    if os.environ.get("NVP_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and NVP_REQUIRE_BROWSER is 1")
    pytest.skip(reason)
