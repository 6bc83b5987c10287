"""The demo's handlers: they read a customer's files, check them, and report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rwf import Fragment
from rwf.demo.source import Customer

# A customer's system, somewhere else, takes about this long to answer. It is what makes the demo
# last long enough to watch, and to be killed in the middle of.
_ANSWER_SECONDS: Final = 0.08
_RETRY_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt of one step; ``input`` has the results that it refers to."""

    folder: Path
    attempt: int
    input: Mapping[str, Any]

    @property
    def account_id(self) -> int:
        return int(self.input["account_id"])

    @property
    def source(self) -> Path:
        """The customer's file."""
        return source_path(self.folder, self.account_id)

    @property
    def copy(self) -> Path:
        """The copy that a sync works with, from its first step to its last."""
        return self.folder / "work" / self.source.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt; ``effect`` is what the ledger gets when it completed, ``append``
    are steps that it adds to the workflow."""

    status: str
    summary: str
    payload: Any = None
    effect: str = ""
    retry_in: float | None = None
    append: Fragment | None = None


def source_path(folder: Path, account_id: int) -> Path:
    """Where a customer's file lies in the demo's folder."""
    return folder / "customers" / f"{account_id}.json"


def perform(worker: str, task: Task) -> Outcome:
    """Does the work of a step; raises KeyError for a worker that does not exist."""
    time.sleep(_ANSWER_SECONDS)
    return WORKERS[worker](task)


def _customer(task: Task) -> tuple[Customer, str]:
    """The customer's file, and its checksum."""
    data = task.source.read_bytes()
    return Customer.model_validate_json(data), hashlib.sha256(data).hexdigest()


def _fetch_customer(task: Task) -> Outcome:
    customer, checksum = _customer(task)
    if customer.status == "closed":
        return Outcome("cancelled", "the account is closed")
    task.copy.write_bytes(task.source.read_bytes())
    payload = {"name": customer.name, "email": customer.email, "sha256": checksum}
    return Outcome("completed", f"fetched {customer.name}", payload, f"copied {checksum[:12]}")


def _unchanged(task: Task) -> Customer:
    customer, checksum = _customer(task)
    if checksum != task.input["sha256"]:
        raise ValueError(f"customer {task.account_id} has changed since it was fetched")
    return customer


def _sync_billing(task: Task) -> Outcome:
    customer = _unchanged(task)
    for invoice in customer.invoices:
        if invoice.amount < 0:
            return Outcome("failed", f"invoice {invoice.number} has a negative amount")
    billed = sum(invoice.amount for invoice in customer.invoices)
    if billed != customer.balance:
        return Outcome("failed", f"the invoices add up to {billed}, not {customer.balance}")
    payload = {"balance": billed, "invoices": len(customer.invoices)}
    return Outcome("completed", f"billed {billed}", payload, f"billed {billed}")


def _sync_orders(task: Task) -> Outcome:
    customer = _unchanged(task)
    if task.attempt <= customer.orders_unreachable:
        summary = f"the orders cannot be reached, attempt {task.attempt}"
        return Outcome("retryable", summary, retry_in=_RETRY_SECONDS)
    region = task.input.get("region")
    orders = [order for order in customer.orders if region in (None, order.region)]
    total = sum(order.total for order in orders)
    payload = {"count": len(orders), "total": total}
    return Outcome("completed", f"{len(orders)} orders", payload, f"orders {total}")


def _split_orders(task: Task) -> Outcome:
    """One step for each region, as many as the customer turns out to have."""
    regions = sorted({order.region for order in _unchanged(task).orders})
    fragment = Fragment()
    for region in regions:
        fragment.add(
            f"sync_orders.{region}",
            worker="sync_orders",
            queue="orders",
            input={**task.input, "region": region},
            max_attempts=3,
        )
    found = f"{len(regions)} regions"
    return Outcome("completed", found, {"regions": regions}, found, append=fragment)


def _build_report(task: Task) -> Outcome:
    parts = task.input["orders"]
    payload = {key: sum(part[key] for part in parts) for key in ("count", "total")}
    return Outcome("completed", f"{payload['count']} orders", payload, f"report {payload['total']}")


def _notify(task: Task) -> Outcome:
    customer, _ = _customer(task)
    text = f"balance {task.input['balance']}, orders {task.input['orders']}"
    return Outcome("completed", f"told {customer.email}", None, f"mail to {customer.email}: {text}")


def _undo_sync(task: Task) -> Outcome:
    """Takes back what has been done of a sync that has failed elsewhere."""
    parts = [part for part in ("billing", "orders") if task.input[part]["payload"]]
    undone = " and ".join(parts) or "nothing"
    return Outcome("completed", f"undid {undone}", {"undone": parts}, f"undid {undone}")


def _cleanup(task: Task) -> Outcome:
    task.copy.unlink(missing_ok=True)
    return Outcome("completed", "removed the working copy", None, "removed the working copy")


WORKERS: Final[Mapping[str, Callable[[Task], Outcome]]] = {
    "fetch_customer": _fetch_customer,
    "sync_billing": _sync_billing,
    "sync_orders": _sync_orders,
    "split_orders": _split_orders,
    "build_report": _build_report,
    "notify": _notify,
    "undo_sync": _undo_sync,
    "cleanup": _cleanup,
}
