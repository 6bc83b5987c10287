"""Makes the pictures of the console in ``docs/``, of a night that it makes up.

    .venv/bin/python -m tools.pictures [--all FOLDER]

With ``--all`` it writes a picture of every page into a folder instead, to be looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser

from rwf import Client, Workflow
from tests.support.browsers import chromium
from tests.support.consoles import console
from tests.support.servers import Server

DOCS: Final = Path(__file__).parents[1] / "docs"
_PARCELS: Final = 40
_PACKED: Final = 28
_TOO_LARGE: Final = (3, 17)
_PACKING: Final = 5


class Night(NamedTuple):
    """The ids of what has gone wrong."""

    sync: str
    order: str
    refund: str
    running: str
    session: str


class Picture(NamedTuple):
    """A page, and how it is looked at."""

    name: str
    path: str
    width: int = 1180
    height: int = 900
    scheme: str = "light"


def sync_customer(client: Client) -> str:
    """A sync that fails at the billing service."""
    wf = Workflow("sync_customer")
    for name in ("fetch_crm", "fetch_orders"):
        wf.add(name, worker="fetch")
    wf.add("merge", worker="merge", deps=["fetch_crm", "fetch_orders"])
    for name in ("sync_mail", "sync_billing"):
        wf.add(name, worker="sync", deps=["merge"])
    wf.add("build_report", worker="report", deps=["sync_mail", "sync_billing"])
    wf.add("notify", worker="notify", deps=["build_report"])
    view = client.insert(wf)
    for name in ("fetch_crm", "fetch_orders", "merge", "sync_mail"):
        client.complete_step(view.id, name, payload={"records": 1_204})
    why = "POST https://billing.internal/v2/charge: 503 Service Unavailable after 3 tries"
    client.complete_step(view.id, "sync_billing", "failed", summary=why)
    return view.id


def ship_order(client: Client) -> str:
    """An order of many parcels, of which two cannot be packed and some are being packed."""
    wf = Workflow("ship_order").add("reserve", worker="stock", queue="packing")
    for number in range(_PARCELS):
        wf.add(f"pick_{number}", worker="pick", queue="packing", deps=["reserve"])
        wf.add(f"pack_{number}", worker="pack", queue="packing", deps=[f"pick_{number}"])
    wf.add("ship", worker="carrier", deps=[f"pack_{number}" for number in range(_PARCELS)])
    wf.add("invoice", worker="billing", deps=["ship"])
    wf.add("notify", worker="notify", deps=["invoice"])
    view = client.insert(wf)
    client.complete_step(view.id, "reserve")
    for number in range(_PARCELS):
        client.complete_step(view.id, f"pick_{number}")
    for number in _TOO_LARGE:
        why = "parcel is larger than the carrier takes"
        client.complete_step(view.id, f"pack_{number}", "failed", summary=why)
    others = (number for number in range(_PARCELS) if number not in _TOO_LARGE)
    for number, _ in zip(others, range(_PACKED), strict=False):
        client.complete_step(view.id, f"pack_{number}")
    client.claim(["packing"], worker_id="packer-2", limit=_PACKING, lease=timedelta(hours=1))
    return view.id


def approve_refund(client: Client) -> str:
    """A refund that nobody has approved in time."""
    wf = Workflow("approve_refund").add("check", worker="check")
    wf.add("approval", worker="wait", deps=["check"])
    wf.add("refund", worker="refund", deps=["approval"])
    view = client.insert(wf)
    client.complete_step(view.id, "check")
    client.await_step(
        view.id, "approval", signal="approved", correlation_key="r-7", deadline=timedelta()
    )
    client.reconcile(view.id)
    return view.id


def night(client: Client) -> Night:
    """The whole night's work; the latest failures come first on the overview."""
    refund, order = approve_refund(client), ship_order(client)
    syncs = [sync_customer(client) for _ in range(5)]
    client.insert_many(
        [Workflow("export").add("export", worker="export", queue="orders")] * 8,
    )
    done = client.insert(Workflow("report").add("build", worker="report"))
    client.complete_step(done.id, "build")
    client.deliver_signal("paid", "order-71", payload={"amount": 20})
    session = client.cancel_many({"name": "report"}, actor="ann", reason="built twice")
    running = client.insert(Workflow("report").add("build", worker="report"))
    assert session.id is not None
    return Night(syncs[-1], order, refund, running.id, session.id)


def in_docs(found: Night) -> Iterator[Picture]:
    retry = f"/act/recover_step?workflow={found.sync}&step=sync_billing&do=retry"
    yield Picture("console-overview", "/", height=760)
    yield Picture("console-workflow", f"/workflows/{found.order}")
    yield Picture("console-action", retry, height=560, scheme="dark")
    yield Picture("console-phone", f"/workflows/{found.sync}", 360, 720, "dark")


def all_pages(found: Night) -> Iterator[Picture]:
    sync, order = f"/workflows/{found.sync}", f"/workflows/{found.order}"
    for name, path in (
        ("workflows", "/workflows"), ("review", "/workflows?status=Needs+Review"),
        ("queues", "/queues"), ("signals", "/signals"), ("workers", "/workers"),
        ("health", "/health"), ("find", "/find?q=nothing"), ("bulk", "/bulk"),
        ("bulk-session", f"/bulk/{found.session}"), ("sync", sync), ("steps", f"{sync}/steps"),
        ("evidence", f"{order}/evidence"), ("callbacks", f"{sync}/callbacks"),
        ("failed-step", f"{sync}/step?name=sync_billing"), ("step", f"{order}/step?name=pack_9"),
        ("refund", f"/workflows/{found.refund}"), ("running", f"/workflows/{found.running}"),
        ("recover-many", "/act/recover_many?do=retry&status=Needs+Review"),
        ("cancel", f"/act/request_cancel?workflow={found.order}"),
        ("retention", f"/act/set_retention?workflow={found.sync}"),
    ):  # fmt: skip
        yield Picture(name, path)
    yield from in_docs(found)


def take(browser: Browser, origin: str, picture: Picture, folder: Path) -> None:
    """Writes one picture."""
    size: Any = {"width": picture.width, "height": picture.height}
    scheme: Any = picture.scheme
    context = browser.new_context(base_url=origin, viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(picture.path)
    page.screenshot(path=folder / f"{picture.name}.png")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="of every page, into a folder")
    folder: Path | None = parser.parse_args().all
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with Server.start("valkey91", aof=True) as server, Client.from_url(server.url) as client:
        found = night(client)
        pictures = in_docs(found) if folder is None else all_pages(found)
        with console(server.url, allow_actions=True) as visitor, chromium() as browser:
            for picture in pictures:
                take(browser, visitor.origin, picture, folder or DOCS)


if __name__ == "__main__":
    main()
