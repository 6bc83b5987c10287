"""The pytest plugin of rwf, which pytest loads where rwf is installed.

It is not part of the package, so that only tests that use the fixture import rwf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rwf import Client


@pytest.fixture
def rwf_client() -> Iterator[Client]:
    """A client on a server in memory of this test's own (``pip install rwf[fake]``)."""
    from rwf import Client

    with Client.fake() as client:
        yield client
