"""The demo's input: a list of workflow definitions, each with its customer in the context."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rwf import RwfError, Workflow, WorkflowInvalid

SHIPPED: Final = Path(__file__).with_name("customers.json")
_MAX_INPUT: Final = 64 * 1024 * 1024


class DemoFailed(RwfError):
    """The demo cannot go on, or did not end as it must."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Invoice(_Model):
    """An invoice; the amount is in cents."""

    number: str
    amount: int


class Order(_Model):
    """An order; the total is in cents."""

    number: str
    region: str
    total: int


class Customer(_Model):
    """A customer's data, as their own system would give it.

    ``balance`` is in cents, and what the invoices must add up to. ``orders_unreachable`` is how
    many attempts to read the orders fail.
    """

    name: str
    email: str
    status: Literal["active", "closed"]
    balance: int
    invoices: tuple[Invoice, ...]
    orders: tuple[Order, ...]
    orders_unreachable: int = Field(default=0, ge=0)


class Context(_Model):
    """A workflow's context."""

    account_id: int = Field(ge=0)
    label: str = ""
    customer: Customer


@dataclass(frozen=True, slots=True)
class Sync:
    """One workflow of the input: as it was read, as it is inserted, and its context."""

    form: dict[str, Any]
    workflow: Workflow
    context: Context

    @property
    def key(self) -> str:
        """Its insert key, by which a second run inserts nothing."""
        return f"demo:{self.workflow.name}:{self.context.account_id}"


def read(path: Path, workers: frozenset[str]) -> list[Sync]:
    """The workflows of an input file whose steps ``workers`` can do.

    Raises DemoFailed, which says where the file is wrong, and OSError.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise DemoFailed(f"{path} has more than {_MAX_INPUT} bytes")
    try:
        forms = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DemoFailed(f"{path} is not JSON: {error}") from None
    if not isinstance(forms, list) or not forms:
        raise DemoFailed(f"{path} must hold a list of workflows")
    syncs = [_sync(form, f"workflow {number}", workers) for number, form in enumerate(forms, 1)]
    if len({sync.key for sync in syncs}) < len(syncs):
        raise DemoFailed(f"{path} has an account_id twice")
    return syncs


def _sync(form: Any, place: str, workers: frozenset[str]) -> Sync:
    try:
        workflow = Workflow.from_dict(form)
        workflow.validate()
        context = Context.model_validate(form.get("context"))
    except WorkflowInvalid as error:
        raise DemoFailed(f"{place}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DemoFailed(f"{place}: context.{field}: {first['msg']}") from None
    for step in workflow.steps:
        if step.worker not in workers:
            known = ", ".join(sorted(workers))
            raise DemoFailed(f"{place}: the demo has no worker {step.worker!r}, only {known}")
    return Sync(form, workflow, context)
