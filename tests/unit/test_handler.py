"""How a handler's parameters are filled, and how its return value is treated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from rwf import Fail, StepContext
from rwf.model.views import ClaimedStep
from rwf.worker.handler import Handler


class Order(BaseModel):
    number: int
    lines: list[str] = []


@dataclass
class Point:
    x: int


class Odd:
    """A type that pydantic cannot validate."""


def context(input: Any) -> StepContext:
    claim = ClaimedStep(
        workflow_id="0-aaaaaaaaaaaaaaaa",
        step="a",
        worker="work",
        queue="default",
        attempt=2,
        max_attempts=5,
        lease="2-token",
        lease_expires_at=datetime.now(UTC),
        timeout=60,
        input=input,
        context={"c": 1},
        workflow_context=None,
        signal=None,
    )
    return StepContext(claim, lambda context: True, lambda context: {})


def called(function: Callable[..., Any], input: Any) -> Any:
    handler = Handler("work", function)
    ctx = context(input)
    return handler.result(handler.call(ctx, handler.arguments(ctx)))


def test_no_parameter_at_all() -> None:
    assert called(lambda: "done", {"x": 1}) == "done"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"any": {"thing": 2**53 + 1}}])
def test_a_single_parameter_receives_the_input_as_it_is(value: Any) -> None:
    assert called(lambda input: input, value) == value
    assert called(lambda any_name_at_all: any_name_at_all, value) == value


def test_a_single_parameter_receives_its_field_where_there_is_one() -> None:
    def take(order: Order) -> int:
        return order.number

    def number(account_id: int) -> int:
        return account_id

    assert called(take, {"order": {"number": 3}, "other": 1}) == called(take, {"number": 3}) == 3
    assert called(number, {"account_id": 42}) == called(number, 42) == 42


def test_a_model_is_validated() -> None:
    def take(order: Order) -> list[Any]:
        return [order.number, order.lines]

    assert called(take, {"number": "7"}) == [7, []]


def test_several_parameters_receive_fields() -> None:
    def take(number: int, order: Order, more: str = "default") -> list[Any]:
        return [number, order.number, more]

    given = {"number": 1, "order": {"number": 2}, "ignored": 3}
    assert called(take, given) == [1, 2, "default"]
    assert called(take, given | {"more": "x"}) == [1, 2, "x"]
    with pytest.raises(Fail, match=r"order\.number: Field required"):
        called(take, {"number": 1, "order": {}})

    def none_needed(a: int = 1, b: int = 2) -> list[int]:
        return [a, b]

    assert called(none_needed, None) == called(none_needed, {}) == [1, 2]


def test_a_keyword_only_parameter_receives_a_field() -> None:
    def take(*, number: Annotated[int, Field(gt=0)]) -> int:
        return number

    assert called(take, {"number": 1}) == 1
    with pytest.raises(
        Fail, match="the input is not valid: number: Input should be greater than 0"
    ):
        called(take, {"number": 0})


def test_the_context_is_found_by_its_type_or_its_name() -> None:
    def typed(input: int, anything: StepContext) -> list[Any]:
        return [input, anything.attempt, anything.context]

    def named(ctx, input):  # type: ignore[no-untyped-def]
        return [input, ctx.attempt, ctx.context]

    def alone(ctx: StepContext) -> list[Any]:
        return [ctx.input, ctx.attempt, ctx.context]

    for function in (typed, named, alone):
        assert called(function, 1) == [1, 2, {"c": 1}]


def test_a_parameter_named_ctx_with_another_type_is_an_input() -> None:
    def take(ctx: int) -> int:
        return ctx

    assert called(take, 3) == 3


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({}, "number: Field required"),
        ({"number": "many", "lines": 1}, "number: Input should be a valid integer.* and 1 more"),
        (None, "Input should be a valid dictionary"),
    ],
)
def test_an_input_that_is_not_valid_fails_without_showing_it(input: Any, message: str) -> None:
    def take(order: Order) -> None:
        pass

    with pytest.raises(Fail, match=f"the input is not valid: {message}") as failed:
        called(take, input)
    assert "many" not in str(failed.value)


@pytest.mark.parametrize(
    ("input", "message"), [([1], "it is not an object"), ({"a": 1}, "it has no field 'b'")]
)
def test_fields_that_are_not_there(input: Any, message: str) -> None:
    def take(a: Any, b: Any) -> None:
        pass

    with pytest.raises(Fail, match=message):
        called(take, input)


def test_models_are_results() -> None:
    def typed() -> list[Order]:
        return [Order(number=1)]

    def untyped():  # type: ignore[no-untyped-def]
        return Order(number=1)

    def of_a_dataclass() -> Point:
        return Point(1)

    assert called(typed, None) == [{"number": 1, "lines": []}]
    assert called(untyped, None) == {"number": 1, "lines": []}
    assert called(of_a_dataclass, None) == {"x": 1}


def test_a_result_of_another_type_fails() -> None:
    def wrong() -> int:
        order: Any = Order(number=1)
        return order  # type: ignore[no-any-return]

    with pytest.raises(Fail, match="not what work says it returns"):
        called(wrong, None)


def test_an_annotation_that_cannot_be_resolved_is_not_validated() -> None:
    def take(order: Nowhere, context: StepContext) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return [order, context.attempt]

    assert called(take, {"x": 1}) == [{"x": 1}, 2]


def test_signatures_that_cannot_be_filled() -> None:
    def odd(input: Odd) -> None:
        pass

    def positional(input: Any, /) -> None:
        pass

    for function in (odd, positional, lambda *args: None, lambda **rest: None):
        with pytest.raises(TypeError):
            Handler("work", function)


class Callable_:
    """A callable object, whose annotations are those of its method."""

    number: str  # not the annotation of a parameter

    def __call__(self, number: int) -> int:
        return number + 1

    def method(self, number: int) -> int:
        return number + 2


class AsyncCallable:
    async def __call__(self, number: int) -> int:
        return number


def test_coroutine_functions_are_known() -> None:
    async def work(number: int) -> None:
        pass

    assert Handler("work", work).is_async
    assert Handler("work", partial(work, number=1)).is_async
    assert Handler("work", AsyncCallable()).is_async
    assert not Handler("work", lambda: None).is_async
    assert not Handler("work", Callable_()).is_async


def test_whatever_can_be_called_is_a_handler_and_typed() -> None:
    def add(number: int, more: int) -> int:
        return number + more

    for function, expected in (
        (Callable_(), 6),
        (Callable_().method, 7),
        (partial(add, more=5), 10),
        (partial(partial(add), more=6), 11),
    ):
        assert called(function, {"number": "5"}) == expected
        with pytest.raises(Fail, match="number: Input should be a valid integer"):
            called(function, {"number": "many"})


def test_a_single_parameter_with_a_default_may_be_missing() -> None:
    def count(limit: int = 10) -> int:
        return limit

    def untyped(limit=10):  # type: ignore[no-untyped-def]
        return limit

    def keyword(*, limit: int = 10) -> int:
        return limit

    for function in (count, untyped, keyword):
        for missing in (None, {}, {"other": 1}):
            assert called(function, missing) == 10
        assert called(function, {"limit": 3}) == 3
    assert called(count, 4) == called(untyped, 4) == 4
    with pytest.raises(Fail, match="limit: Input should be a valid integer"):
        called(count, {"limit": "many"})


def test_a_model_with_a_default_is_not_missing_because_it_is_wrong() -> None:
    def take(order: Order | None = None) -> int:
        return 0 if order is None else order.number

    def options(given: dict[str, int] = {"x": 1}) -> dict[str, int]:  # noqa: B006
        return given

    assert called(take, None) == 0
    assert called(take, {"number": 3}) == called(take, {"order": {"number": 3}}) == 3
    with pytest.raises(Fail, match="number: Field required"):
        called(take, {"numbr": 3})
    assert called(options, {"y": 2}) == {"y": 2}
