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


def test_recover_all_and_cancel_all(cli: Cli, one_client: Client) -> None:
    who = ("--actor", "ann", "--reason", "fixed")
    meant = ("--all", "--state", "failed", "--tag", "account=42", "--failed-step", "ship")
    ids = [one_client.insert(flow("ship", tags={"account": "42"})).id for _ in range(3)]
    for id_ in ids:
        one_client.complete_step(id_, "ship", "failed")
    assert "dry run of retry" in cli.ok("recover", *meant, "retry", "--dry-run", *who)
    assert one_client.count(state="failed").count == 3
    text = cli.ok("recover", *meant, "retry", *who)
    assert "  changed: 3" in text
    [session] = one_client.bulks()
    assert session.id is not None
    assert session.id in cli.ok("bulk")
    assert cli.json("bulk", session.id)["counts"] == {"changed": 3}
    cli.ok("bulk", session.id, "--continue")
    assert cli.json("cancel", "--all", "--tag", "account=42", *who)["counts"] == {"changed": 3}
    assert {one_client.get(id_).state for id_ in ids} == {"cancelled"}
    told = cli.json("bulk", session.id, "--stop", *who)
    assert told["stopped_by"] is None, "it was done"
    cli.refused(1, "bulk", "a" * 16)
    cli.refused(1, "cancel", "--all", *who)
    for bad in (
        ("recover", *meant, "retry"),
        ("recover", *meant, "retry", "--force", *who),
        ("recover", ids[0], "retry"),
        ("cancel", ids[0], "--state", "failed"),
        ("cancel", "--all", "--state", "failed", "--force", *who),
        ("bulk", "--stop"),
        ("bulk", session.id, "--stop"),
    ):
        cli.refused(2, *bad)
