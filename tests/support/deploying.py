"""The files of ``deploy/`` as tests use them: users with passwords, and servers that have them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Final

from tests.support.servers import AnyServer, Cluster, Server

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
PASSWORD: Final = "hunter2-hunter2"
ROLES: Final = ("client", "worker", "daemon", "migrate", "operator", "console")

_NOBODY: Final = "user default off resetpass resetkeys resetchannels -@all"
_ANYBODY: Final = "user default on nopass ~* &* +@all"


def users_file(folder: Path) -> Path:
    """``users.acl`` with a password for each user, and with the tests' own way in."""
    text = (DEPLOY / "users.acl").read_text()
    assert text.splitlines()[0] == _NOBODY
    text = re.sub(r"^(user rwf-\w+ on) ", rf"\1 >{PASSWORD} ", text, flags=re.MULTILINE)
    path = folder / "users.acl"
    path.write_text(text.replace(_NOBODY, _ANYBODY))
    return path


def start(kind: str) -> AnyServer:
    """A server of a kind, or a cluster, with the configuration and the users of ``deploy/``."""
    users = users_file(Path(tempfile.mkdtemp(prefix="rwf-users-")))
    extra = ("--include", str(DEPLOY / "redis.conf"), "--aclfile", str(users))
    if kind == "cluster":
        return Cluster.start(extra=extra)
    return Server.start(kind, extra=extra)


def url_of(server: AnyServer, role: str, password: str = PASSWORD) -> str:
    """The URL of a user."""
    return server.url.replace("://", f"://rwf-{role}:{password}@")
