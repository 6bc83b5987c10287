"""Shared by the tests of ``test_doctor.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf import Client
from rwf.model.views import Check


def finding(client: Client, name: str) -> Check:
    (check,) = (check for check in client.doctor().checks if check.name == name)
    return check


def found(client: Client, name: str) -> str:
    check = finding(client, name)
    assert (check.advice is None) is (check.status == "ok")
    return f"{check.status}: {check.found}"
