"""Which servers rwf runs on, by their INFO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rwf.errors import StoreMisconfigured


def check_server(info: Mapping[str, Any], *, waits_for_aof: bool, require_aof: bool) -> str | None:
    """Returns what to warn of; raises StoreMisconfigured for a server that rwf must not run on."""
    name, version = server_version(info)
    if is_too_old(name, version):
        raise StoreMisconfigured(
            f"{name} {'.'.join(map(str, version))} is too old: "
            "rwf needs Redis 7.0 or newer, or Valkey 8.0 or newer"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreMisconfigured(
            f"maxmemory-policy is {policy}: the server would drop records when memory is "
            "short; set it to noeviction"
        )
    if waits_for_aof and name != "valkey" and version[:2] < (7, 2):
        raise StoreMisconfigured("durability='aof' needs WAITAOF: Redis 7.2 or newer, or Valkey")
    if int(info.get("aof_enabled", 1)):
        return None
    advice = "the server has no append-only file (appendonly no): a restart loses workflows"
    if require_aof or waits_for_aof:
        raise StoreMisconfigured(advice)
    return advice


def server_version(info: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """The server's kind (``redis`` or ``valkey``) and version, from its INFO."""
    valkey = info.get("valkey_version")
    text = str(valkey or info.get("redis_version", "0"))
    return ("valkey" if valkey else "redis"), tuple(map(int, re.findall(r"\d+", text)[:3]))


def is_too_old(name: str, version: tuple[int, ...]) -> bool:
    """Whether rwf refuses to run on a server of this kind and version."""
    return version[:2] < ((8, 0) if name == "valkey" else (7, 0))
