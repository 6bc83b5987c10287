"""What the README shows is run: its example, and the commands that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from rwf import AsyncClient, Client, Worker, Workflow
from rwf.cli import program
from tests.contract.workers import at_work, until_ended
from tests.servers import AnyServer
from tests.waiting import until

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
EXAMPLES = [text for language, text in BLOCKS if language == "python"]


def test_the_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    (printed,) = (text for _, text in BLOCKS if text.startswith("released:"))
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[0])
    found = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert found.stderr == ""
    assert found.stdout == printed
    assert (tmp_path / "rwf-example" / "server.log").exists()
    assert "/tmp" not in README  # a fixed name there can be somebody else's


def test_the_worker_of_the_readme_does_steps(one_client: Client, one_server: AnyServer) -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLES[1], names)
    worker: Worker = names["worker"]
    worker.use(AsyncClient.from_url(one_server.url))
    workflow = Workflow("w").add("fetch", worker="fetch_customer", input={"account_id": 42})
    workflow.add("sign", worker="approve", input="order-5", queue="billing")
    view = one_client.insert(workflow)
    with at_work(worker):
        until(lambda: one_client.step(view.id, "sign").awaiting, what="the wait")
        one_client.deliver_signal("approved", "order-5", payload="ann")
        until_ended(one_client, view.id)
    found = {row.step: row.payload for row in one_client.results(view.id)}
    assert found == {"fetch": {"name": "Ada"}, "sign": "ann"}


def test_the_commands_exist_with_the_options_shown() -> None:
    shown = [line.split() for _, text in BLOCKS for line in text.splitlines() if line[:4] == "rwf "]
    assert len(shown) >= 7
    for _, name, *rest in shown:
        options = {option for each in program.commands[name].params for option in each.opts}
        assert {word for word in rest if word.startswith("--")} <= options
