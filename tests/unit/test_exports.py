"""Everything that users import comes from ``rwf`` itself."""

from __future__ import annotations

import inspect

import pytest

import rwf
from rwf.model import views

VIEWS = sorted(
    name
    for name, kind in vars(views).items()
    if inspect.isclass(kind) and issubclass(kind, views.View)
)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_exported(name: str) -> None:
    assert getattr(rwf, name) is getattr(views, name)
    assert name in rwf.__all__


def test_what_methods_take_and_return_beside_views_is_exported() -> None:
    assert {"Batch", "Completion", "ClaimedStep", "Event"} <= set(rwf.__all__)
    assert len(VIEWS) > 30


def test_each_exported_name_exists_once_and_in_order() -> None:
    assert sorted(set(rwf.__all__)) == rwf.__all__
    assert [name for name in rwf.__all__ if not hasattr(rwf, name)] == []
