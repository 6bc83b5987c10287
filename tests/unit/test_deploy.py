"""The files of ``deploy/``: each parses, and names only what exists."""

from __future__ import annotations

import configparser
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics_core import CounterMetricFamily

from rwf import metrics, name_metrics
from rwf.protocol.requests import READING, WRITING
from tests.support.deploying import DEPLOY, ROLES

ROOT: Final = DEPLOY.parent
RULES: Final = DEPLOY / "prometheus" / "rules.yaml"
BOARD: Final = DEPLOY / "grafana" / "rwf.json"

AGES: Final = (metrics.READY_AGE, metrics.SWEEP_AGE, metrics.SWEEP_ROUND, metrics.OWNED)
# The labels of each metric, by the name under which Prometheus has it.
KNOWN: Final[dict[str, set[str]]] = {
    **{f"{family.name}_total": set(family.labels) for family in metrics.COUNTERS},
    **{family.name: set(family.labels) for family in metrics.GAUGES},
    **{name: set() for name in AGES},
    **{
        f"{family.name}_total" if family.kind is CounterMetricFamily else family.name: {"queue"}
        for family in name_metrics.QUEUES
    },
    f"{name_metrics.WORKFLOWS_ENDED}_total": {"name", "state"},
    f"{name_metrics.HANDLER_ATTEMPTS}_total": {"handler", "outcome"},
    f"{name_metrics.HANDLER_SECONDS}_bucket": {"handler", "le"},
    f"{metrics.DURATION}_bucket": {"function", "le"},
    f"{metrics.DURATION}_count": {"function"},
    f"{metrics.DURATION}_sum": {"function"},
}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def rules() -> list[dict[str, Any]]:
    (document,) = documents(RULES)
    return [rule for group in document["groups"] for rule in group["rules"]]


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARD.read_text())
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in board()["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expr", list(expressions()))
def test_rules_and_board_name_metrics_that_exist(expr: str) -> None:
    names = set(re.findall(r"\brwf_\w+", expr))
    assert names
    assert names <= set(KNOWN)
    labels = set().union(*(KNOWN[name] for name in names)) | {"job"}
    for listed in re.findall(r"by \(([^)]*)\)", expr):
        assert {label.strip() for label in listed.split(",")} <= labels
    for matched in re.findall(r"\{([^}]*)\}", expr):
        assert set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matched)) <= labels


def test_every_metric_of_the_fleet_is_on_the_board() -> None:
    shown = {name for expr in expressions() for name in re.findall(r"\brwf_\w+", expr)}
    # Whether a queue is served is the alert's alone.
    assert {name for name in KNOWN if not name.startswith(metrics.DURATION)} <= shown


def test_counts_of_several_reconcilers_are_never_added_up() -> None:
    """Each reports those of the whole fleet; its own are the calls and the partitions."""
    summed = {
        name
        for expr in expressions()
        for name in re.findall(r"sum(?: by \([^)]*\))? \((?:rate|increase)?\(?(rwf_\w+)", expr)
    }
    assert summed
    own = (metrics.DURATION, name_metrics.HANDLER_SECONDS, name_metrics.HANDLER_ATTEMPTS)
    assert {name for name in summed if not name.startswith(own)} <= {metrics.OWNED}


def test_the_alerts() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert {
        "RwfSweepStuck",
        "RwfReadyStepWaits",
        "RwfQueueUnserved",
        "RwfDeadCallbacks",
        "RwfLeasesExpire",
        "RwfCommandsRejected",
    } <= set(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_rules_in_prometheus_eyes() -> None:
    """Checked where promtool is installed; elsewhere the parsing above has to do."""
    if tool := shutil.which("promtool"):
        done = subprocess.run([tool, "check", "rules", RULES], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


QUIET: Final = {
    "rwf_partitions_owned": "1+0x60",
    "rwf_sweep_age_seconds": "60+0x60",
    "rwf_sweep_round_seconds": "60+0x60",
    "rwf_ready_oldest_age_seconds": "5+0x60",
    'rwf_queue_available{queue="mail"}': "3+0x60",
    'rwf_queue_served{queue="mail"}': "1+0x60",
    'rwf_callbacks{status="dead"}': "0+0x60",
    "rwf_lease_expired_total": "7+0x60",
    'rwf_commands_rejected_total{action="complete",reason_code="stale_lease"}': "9+6x60",
    'rwf_reconcile_repairs_total{kind="index_entry_missing"}': "0+0x60",
    'rwf_reconcile_repairs_total{kind="lease_expired"}': "0+1x60",
}
TROUBLE: Final = {
    "RwfSweepStuck": ("rwf_sweep_age_seconds", "901+60x60"),
    "RwfReadyStepWaits": ("rwf_ready_oldest_age_seconds", "901+60x60"),
    "RwfQueueUnserved": ('rwf_queue_served{queue="mail"}', "0+0x60"),
    "RwfDeadCallbacks": ('rwf_callbacks{status="dead"}', "0+0x50 1+0x10"),
    "RwfLeasesExpire": ("rwf_lease_expired_total", "0+0x50 0+2x10"),
    "RwfCommandsRejected": (
        'rwf_commands_rejected_total{action="complete",reason_code="stale_lease"}', "9+90x60",
    ),
    "RwfRecordsRepaired": (
        'rwf_reconcile_repairs_total{kind="index_entry_missing"}', "0+0x50 1+0x10",
    ),
}  # fmt: skip


def after_an_hour(series: dict[str, str], alerts: list[str]) -> dict[str, Any]:
    """A test for promtool: which alerts are active after an hour of the samples of two
    reconcilers."""
    labels = ('instance="a",job="rwf"', 'instance="b",job="rwf"')
    told = [
        {
            "series": f"{name[:-1]},{more}}}" if "{" in name else f"{name}{{{more}}}",
            "values": values,
        }
        for name, values in series.items()
        for more in labels
    ]
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]
    question = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": told,
        "promql_expr_test": [{"expr": question, "eval_time": "60m", "exp_samples": expected}],
    }


def test_each_alert_fires_for_its_own_trouble(tmp_path: Path) -> None:
    """Checked where promtool is installed."""
    assert {rule["alert"] for rule in rules()} == {*TROUBLE, "RwfNoReconciler"}
    tests = [after_an_hour(QUIET, []), after_an_hour({}, ["RwfNoReconciler"])]
    for alert, (name, values) in TROUBLE.items():
        assert name in QUIET
        tests.append(after_an_hour({**QUIET, name: values}, [alert]))
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    if tool := shutil.which("promtool"):
        done = subprocess.run([tool, "test", "rules", path], capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_board_loads_without_edits() -> None:
    found = board()
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in found["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", BOARD.read_text())) <= variables | {
        "__rate_interval",
        "__all",
    }
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        assert panel["targets"]
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
        assert one["x"] + one["w"] <= 24


def test_users_may_run_what_functions_run_and_no_other_command_on_keys() -> None:
    lines = (DEPLOY / "users.acl").read_text().splitlines()
    users = {line.split()[1]: line.split()[2:] for line in lines}
    assert set(users) == {"default", "rwf-admin", *(f"rwf-{role}" for role in ROLES)}
    for role in ROLES:
        granted = {rule[1:].upper() for rule in users[f"rwf-{role}"] if rule[0] == "+"}
        of_functions = granted - {
            "@CONNECTION", "INFO", "FUNCTION|LIST", "FUNCTION|LOAD", "SCAN", "FCALL", "FCALL_RO",
            "ACL|WHOAMI", "ACL|DRYRUN", "CLUSTER|SLOTS", "CLUSTER|SHARDS", "CLUSTER|NODES",
            "CLUSTER|INFO", "PUBLISH", "SPUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "SSUBSCRIBE",
            "SUNSUBSCRIBE",
        }  # fmt: skip
        expected = {
            "operator": {*READING}, "console": {*READING}, "migrate": {"HMGET", "HSET", "HSETNX"},
        }  # fmt: skip
        assert of_functions == expected.get(role, {*READING, *WRITING})
        assert ("FUNCTION|LOAD" in granted) is (role == "migrate")
        assert ("SCAN" in granted) is (role == "daemon")
        assert not any(rule[0] in "><#" or rule == "nopass" for rule in users[f"rwf-{role}"])
    assert users["default"][0] == "off"


def test_the_image() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert stages == ["python:3.11-slim"] * 2
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    (command,) = re.findall(r"^CMD (.+)$", last, re.MULTILINE)
    assert json.loads(command) == ["reconciler", "--metrics", "0.0.0.0:9464", "--metrics-by-name"]
    copied = [
        name
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def compose() -> dict[str, Any]:
    (found,) = documents(DEPLOY / "compose.yaml")
    return dict(found)


def test_compose() -> None:
    services = compose()["services"]
    reconciler = services["reconciler"]
    assert reconciler["deploy"]["replicas"] == 2
    assert reconciler["build"]["dockerfile"] == "deploy/Dockerfile"
    assert "rwf-daemon:" in reconciler["environment"]["RWF_URL"]
    assert "rwf-migrate:" in services["migrate"]["environment"]["RWF_URL"]
    assert services["migrate"]["command"] == ["migrate"]
    assert services["console"]["command"][0] == "console"
    assert "rwf-console:" in services["console"]["environment"]["RWF_URL"]
    assert "RWF_CONSOLE_TOKEN" in services["console"]["environment"]
    assert "migrate" in reconciler["depends_on"]
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    defaults = re.findall(
        r"\$\{RWF_\w+_(?:PASSWORD|TOKEN)([^}]*)\}", (DEPLOY / "compose.yaml").read_text()
    )
    assert defaults
    assert all(default.startswith(":?") for default in defaults)


def test_compose_gives_each_user_a_password(tmp_path: Path) -> None:
    """Its script is run, up to the server."""
    (script,) = compose()["services"]["server"]["command"]
    script = script.replace("$$", "$").partition("exec ")[0]
    script = script.replace("/etc/rwf", str(DEPLOY)).replace("/run/rwf", str(tmp_path))
    roles = ("admin", *ROLES)
    words = {f"RWF_{role.upper()}_PASSWORD": f"a /&'\"$ of {role}" for role in roles}
    environment = {"PATH": "/usr/bin:/bin", **words}
    subprocess.run(["sh", "-euc", script], env=environment, check=True)
    lines = (tmp_path / "users.acl").read_text().splitlines()
    found = {line.split()[1]: line.split()[3] for line in lines[1:]}
    assert set(found) == {f"rwf-{role}" for role in roles}
    assert len(set(found.values())) == len(roles)
    assert all(re.fullmatch(r"#[0-9a-f]{64}", word) for word in found.values())


class Unit(configparser.ConfigParser):
    """Keeps the capitals of option names."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_units(path: Path) -> None:
    unit = Unit(strict=True, interpolation=None)
    unit.read(path)
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    service = unit["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["NoNewPrivileges"] == "yes"
    command = service["ExecStart"].split()
    assert command[0].endswith("/rwf")
    assert command[1] in ("reconciler", "worker")
    assert "--metrics-by-name" in command


def test_kubernetes() -> None:
    deployment, budget, *_ = documents(DEPLOY / "kubernetes.yaml")
    spec = deployment["spec"]
    assert spec["replicas"] == 2
    labels = spec["template"]["metadata"]["labels"]
    for selector in (spec["selector"], budget["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    (before,) = pod["initContainers"]
    assert before["args"] == ["migrate"]
    assert before["securityContext"] == container["securityContext"]
    (port,) = container["ports"]
    assert container["args"][-1].endswith(f":{port['containerPort']}")
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert set(container["resources"]) == {"requests", "limits"}
    assert container["args"][0] == "reconciler"
    assert "--metrics-by-name" in container["args"]


def test_kubernetes_runs_the_console_behind_a_token() -> None:
    reconciler, _, console, service = documents(DEPLOY / "kubernetes.yaml")
    pod, other = (one["spec"]["template"]["spec"] for one in (console, reconciler))
    (container,), (trusted,) = pod["containers"], other["containers"]
    assert pod["securityContext"] == other["securityContext"]
    assert container["securityContext"] == trusted["securityContext"]
    assert {one["name"] for one in container["env"]} == {"RWF_URL", "RWF_CONSOLE_TOKEN"}
    assert container["args"] == ["console", "--listen", "0.0.0.0:9465"]
    (port,) = container["ports"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    labels = console["spec"]["template"]["metadata"]["labels"]
    assert console["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]


def test_prometheus_and_grafana_find_their_files() -> None:
    (config,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    for name in config["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()
    (job,) = config["scrape_configs"]
    assert job["dns_sd_configs"][0]["names"] == ["reconciler"]
    (source,) = documents(DEPLOY / "grafana" / "source.yaml")
    assert source["datasources"][0]["type"] == "prometheus"
    (boards,) = documents(DEPLOY / "grafana" / "boards.yaml")
    assert boards["providers"][0]["type"] == "file"
