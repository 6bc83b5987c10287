"""``rwf ls`` with its filters."""

from __future__ import annotations

from rwf import Client
from tests.support.commandline import Cli
from tests.support.flows import flow


def test_ls_by_tag_time_step_and_order(cli: Cli, one_client: Client) -> None:
    tags = {"account": "42", "region": "eu \x1b[31m"}
    ids = [one_client.insert(flow("ship", tags=tags if n else None)).id for n in range(3)]
    one_client.complete_step(ids[2], "ship", "failed")

    def found(*options: str) -> list[int]:
        return [ids.index(view["id"]) for view in cli.json("ls", *options)["workflows"]]

    assert found("--tag", "account=42") == [2, 1]
    assert found("--tag", "account=42", "--tag", f"region={tags['region']}") == [2, 1]
    assert found("--tag", "account=4") == []
    assert found("--order", "oldest", "--since", "1h") == [0, 1, 2]
    assert found("--until", "2020-01-31") == found("--since", "2999-01-31T12:00+01:00") == []
    assert found("--failed-step", "ship") == [2]
    head, line = cli.ok("ls", "--failed-step", "ship").splitlines()
    assert head.endswith("TAGS")
    assert line.endswith(r"account=42 region=eu \x1b[31m")
    assert cli.ok("ls", "--count", "--tag", "account=42") == "2\n"
    assert cli.json("ls", "--count")["count"] == 3
    for bad in ("account", "=42", "account="):
        cli.refused(2, "ls", "--tag", bad)
    cli.refused(2, "ls", "--tag", "a=1", "--tag", "a=2")
    for bad in ("yesterday", "2", "9999999d", ""):
        cli.refused(2, "ls", "--since", bad)
