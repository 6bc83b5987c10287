"""How everything must end, worked out from the input alone.

It knows neither the library's rules nor the workers' code: what both came to is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rwf.demo.source import Customer, Sync

SKIPPED: Final = "skipped"
_DONE: Final = frozenset({"completed", SKIPPED})


def steps(sync: Sync) -> dict[str, str]:
    """The end of each step of a workflow, those included that it grows: its state, or SKIPPED."""
    by_name = {step["name"]: step for step in sync.form["steps"]}
    parents = _parents(sync.form)
    ended: dict[str, str] = {}
    while len(ended) < len(by_name):
        for name, step in list(by_name.items()):
            if name not in ended and all(parent in ended for parent in parents[name]):
                ended[name] = _end(step, parents[name], ended, sync.context.customer)
                if step["worker"] == "split_orders" and ended[name] == "completed":
                    _grow(name, sync.context.customer, by_name, parents)
    return ended


def workflow(ended: Mapping[str, str]) -> str:
    """The final state of a workflow whose steps have ended so."""
    found = set(ended.values())
    if not found - _DONE:
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


def _grow(
    name: str,
    customer: Customer,
    by_name: dict[str, dict[str, Any]],
    parents: dict[str, dict[str, str]],
) -> None:
    """Adds a step for each region; what waits for ``name`` waits for each of them, too."""
    waiting = {child: edges[name] for child, edges in parents.items() if name in edges}
    for region in {order.region for order in customer.orders}:
        added = f"sync_orders.{region}"
        by_name[added] = {"name": added, "worker": "sync_orders", "max_attempts": 3}
        parents[added] = {name: "cancel"}
        for child, policy in waiting.items():
            parents[child][added] = policy


def _end(
    step: Mapping[str, Any],
    edges: Mapping[str, str],
    ended: Mapping[str, str],
    customer: Customer,
) -> str:
    failed = {policy for parent, policy in edges.items() if ended[parent] not in _DONE}
    if "cancel" in failed:
        return "cancelled"
    if "on_failure" in edges.values() and "on_failure" not in failed:
        return SKIPPED
    return _own_end(step, customer)


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value[key] for key in ("$result", "$results") if key in value)
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
