"""The commands about the server: migrate, doctor, server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rwf import Client
from rwf.embedded import EmbeddedServer
from tests.support.commandline import Cli
from tests.support.servers import AnyServer, Server, free_port


def test_migrate_loads_once(cli: Cli, one_server: AnyServer) -> None:
    any_client: Any = one_server.client()
    any_client.execute_command("FUNCTION FLUSH")
    first, again = cli.json("migrate"), cli.json("migrate")
    assert (first["loaded"], again["loaded"]) == (True, False)
    assert first["library"] == again["library"]
    assert (first["namespace"], first["partitions"]) == ("rwf", 1)
    assert "was loaded already" in cli.ok("migrate")


def test_doctor_on_a_good_server(cli: Cli) -> None:
    cli.ok("migrate")
    report = cli.json("doctor")
    assert report["healthy"] is True
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert found == {
        "reachable": "ok",
        "version": "ok",
        "persistence": "warning",
        "eviction": "ok",
        "memory": "ok",
        "role": "ok",
        "replication": "ok",
        "cluster": "ok",
        "clock": "ok",
        "library": "ok",
        "rights": "ok",
        "namespace": "ok",
        "sweep": "ok",
        "ready": "ok",
        "callbacks": "ok",
    }
    assert "set appendonly yes" in cli.ok("doctor")


def test_doctor_changes_nothing(cli: Cli, one_server: AnyServer) -> None:
    any_client: Any = one_server.client()
    any_client.execute_command("FUNCTION FLUSH")
    report = cli.json("doctor")
    advice = {check["name"]: check["advice"] for check in report["checks"]}
    assert "rwf migrate" in advice["library"]
    assert any_client.dbsize() == 0
    assert any_client.execute_command("FUNCTION LIST") == []


def test_doctor_reports_a_server_that_rwf_refuses(tmp_path: Path) -> None:
    extra = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    with Server.start("redis70", aof=True, extra=extra) as server:
        cli = Cli(server.url, tmp_path)
        found = cli("doctor")
        assert found.exit_code == 3
        assert found.stderr == ""
        assert "failed   eviction     maxmemory-policy allkeys-lru; " in found.stdout
        assert "ok       persistence  append-only file, appendfsync everysec" in found.stdout
        assert json.loads(cli("doctor", "--json").stdout)["healthy"] is False
        assert "store_misconfigured: maxmemory-policy" in cli.refused(3, "ls")
        any_client: Any = server.client()
        any_client.config_set("maxmemory-policy", "noeviction")
        any_client.config_set("maxmemory", "1mb")
        assert "failed   memory" in cli("doctor").stdout
        any_client.config_set("maxmemory", "0")
        any_client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "failed   role         replica; " in cli("doctor").stdout


def test_an_old_server(tmp_path: Path) -> None:
    with Server.start("redis62") as server:
        cli = Cli(server.url, tmp_path)
        assert "failed   version      redis 6.2." in cli("doctor").stdout
        assert "too old" in cli.refused(3, "migrate")


def test_a_user_without_rights(one_server: AnyServer, tmp_path: Path) -> None:
    any_client: Any = one_server.client()
    rules = ("on", ">secret", "~*", "+@all", "-info", "-hget", "-config", "-function")
    any_client.execute_command("ACL", "SETUSER", "bob", *rules)
    cli = Cli(one_server.url.replace("redis://", "redis://bob:secret@"), tmp_path)
    assert cli("doctor").exit_code == 3
    assert "this user may not read INFO" in cli("doctor").stdout
    line = cli.refused(3, "ls")
    assert "store_misconfigured" in line
    wrong = Cli(one_server.url.replace("redis://", "redis://bob:hunter2@"), tmp_path)
    for command in ("ls", "doctor"):
        line = wrong.refused(3, command)
        assert "refused the login" in line
        assert "hunter2" not in line


def test_doctor_on_a_cluster(pool: Any, tmp_path: Path) -> None:
    cluster = pool.get("cluster")
    cli = Cli(cluster.url, tmp_path)
    cli.ok("migrate")
    report = cli.json("doctor")
    assert report["healthy"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert found["cluster"] == "state ok, 16384 of 16384 slots served"
    alone = Cli(cluster.nodes[0].url, tmp_path)
    assert "connect with redis+cluster://" in alone("doctor").stdout
    assert alone("doctor").exit_code == 3
    assert "connect with redis+cluster://" in alone.refused(3, "ls")
    single = pool.get("valkey91")
    wrong = Cli(single.url.replace("redis://", "redis+cluster://"), tmp_path)
    assert "not part of a cluster" in wrong.refused(3, "ls")


def test_server_runs_until_it_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rwf", "server", str(tmp_path / "a folder"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        cli = Cli(told["url"], tmp_path)
        assert cli.json("doctor")["healthy"] is True
        os.kill(told["pid"], signal.SIGKILL)
        workflow_id = cli.inserted()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    with Client.from_url(told["url"]) as client:
        assert client.get(workflow_id).name == "sync_customer"


def test_server_asks_for_one_folder(cli: Cli) -> None:
    cli.refused(2, "server")
    cli.refused(2, "server", "x", "--url", "embedded:///x")
    cli.refused(2, "server", "a\0b")
    cli.refused(3, "server", "--url", "redis://x")
    cli.refused(3, "server", cli.file("", "a file"))


def test_the_port_of_an_embedded_server_asks_for_a_password(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "folder"
    # Attached, so that the server goes on from one command to the next.
    with EmbeddedServer(folder, port=port) as running:
        password = (folder / "server.password").read_text().strip()
        assert len(password) >= 32

        def told(*options: str) -> str:
            command = [sys.executable, "-m", "rwf", "server", str(folder), *options]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                lines = [process.stdout.readline()]
                process.send_signal(signal.SIGINT)
                return "".join([*lines, *process.stdout.readlines()])

        text = told("--port", str(port))
        assert f"redis://127.0.0.1:{port}/0" in text
        assert f"password of the port: in {folder}/server.password" in text
        assert password not in text
        shown = json.loads(told("--json", "--show-password"))
        assert shown["redis_url"] == f"redis://:{password}@127.0.0.1:{port}/0"
        assert shown["password_file"] == f"{folder}/server.password"
        assert password not in told("--json")
        assert "refused the login" in Cli(f"redis://127.0.0.1:{port}/0", tmp_path).refused(3, "ls")
        Cli(shown["redis_url"], tmp_path).inserted()
        # Through the folder nobody needs to know the port.
        assert len(Cli(shown["url"], tmp_path).ok("ls").splitlines()) == 2
        assert password not in Path(f"/proc/{running.pid}/cmdline").read_bytes().decode()
        assert password not in (folder / "server.log").read_text()
