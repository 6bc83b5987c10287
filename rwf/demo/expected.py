"""How everything must end, worked out from the input alone.

It knows neither the library's rules nor the workers' code: what both came to is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rwf.demo.source import Customer, Sync


def steps(sync: Sync) -> dict[str, str]:
    """The final state of each step of a workflow."""
    by_name = {step["name"]: step for step in sync.form["steps"]}
    parents = _parents(sync.form)
    ended: dict[str, str] = {}
    while len(ended) < len(by_name):
        for name, step in by_name.items():
            if name not in ended and all(parent in ended for parent in parents[name]):
                stopped = any(
                    policy == "cancel" and ended[parent] != "completed"
                    for parent, policy in parents[name].items()
                )
                ended[name] = "cancelled" if stopped else _own_end(step, sync.context.customer)
    return ended


def workflow(ended: Mapping[str, str]) -> str:
    """The final state of a workflow whose steps have ended so."""
    found = set(ended.values())
    if found == {"completed"}:
        return "completed"
    return "failed" if found & {"failed", "discarded"} else "cancelled"


def _parents(form: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The policy of each edge, by child and parent; an edge that is written down comes first."""
    parents: dict[str, dict[str, str]] = {step["name"]: {} for step in form["steps"]}
    for edge in form.get("edges", ()):
        parents[edge["child"]][edge["parent"]] = edge.get("policy", "cancel")
    for step in form["steps"]:
        for parent in (*step.get("deps", ()), *_referred(step.get("input"))):
            parents[step["name"]].setdefault(parent, "cancel")
    return parents


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$result" in value:
            yield value["$result"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _referred(item)


def _own_end(step: Mapping[str, Any], customer: Customer) -> str:
    match step["worker"]:
        case "fetch_customer" if customer.status == "closed":
            return "cancelled"
        case "sync_billing":
            amounts = [invoice.amount for invoice in customer.invoices]
            right = min(amounts, default=0) >= 0 and sum(amounts) == customer.balance
            return "completed" if right else "failed"
        case "sync_orders" if customer.orders_unreachable >= step.get("max_attempts", 5):
            return "discarded"
        case _:
            return "completed"
