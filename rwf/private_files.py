"""Folders and files that no other user of this machine has made, or can change.

Whoever may write into a folder can put a link there in place of a file, or another folder in place
of the folder. So a folder is trusted when it belongs to the user of this process and only that user
may write into it, and when each folder on the way to it belongs to that user or to root, and lets
nobody else replace what is in it (a sticky one, such as ``/tmp``, does not). A file is trusted when
it is a plain file of that user with one name; it is opened without following a link.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from rwf.errors import StoreMisconfigured

_MOST_LINKS: Final = 40
"""How many links a path may lead over, as for the kernel."""


def prepare_folder(folder: Path) -> None:
    """Create the folder, with mode 0700, unless it exists; then ``check_folder``."""
    try:
        check_folder(folder)
    except FileNotFoundError:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _no_folder(folder, error) from error
        check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises StoreMisconfigured unless the absolute path names a folder that can be trusted.

    FileNotFoundError when it does not exist; what exists of the way to it was checked then.
    """
    try:
        real = _followed(folder)
        status = real.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _no_folder(folder, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreMisconfigured(f"no folder at {folder}: Not a directory")
    if status.st_uid != os.geteuid():
        raise StoreMisconfigured(
            f"{folder} belongs to user {status.st_uid}, not to the user of this process"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreMisconfigured(f"other users may write into {folder}: give it mode 0700")
    if not os.access(real, os.R_OK | os.W_OK | os.X_OK):
        raise StoreMisconfigured(f"{folder} is not writable")


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file that can be trusted, made with mode 0600 if ``flags`` say so.

    Raises StoreMisconfigured for any other kind of file, and OSError as ``os.open`` does.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for its other end.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreMisconfigured(f"{path} is a link") from error
        raise
    try:
        _check_entry(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_file(path: Path, limit: int) -> bytes:
    """The last ``limit`` bytes of a file that can be trusted; raises as ``open_file`` does."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - limit))
        return file.read(limit)


def write_file(path: Path, content: bytes) -> None:
    """Put a new file, with mode 0600, in the place of whatever has this name; raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
    fresh.replace(path)


def check_entries(folder: Path, prefixes: Collection[str] = ("",)) -> None:
    """Raises StoreMisconfigured unless all entries whose names begin so can be trusted.

    They are files, and folders of files. FileNotFoundError when there is no such folder.
    """
    with os.scandir(folder) as entries:
        found = [folder / each.name for each in entries if each.name.startswith(tuple(prefixes))]
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile, by the server
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                check_folder(path)
                check_entries(path)
            else:
                _check_entry(path, status)


def is_socket(path: Path) -> bool:
    """Whether a socket of this process's user is there, and no link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def is_private(folder: Path) -> bool:
    """Whether this is a folder, and no link, that only this process's user may enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and status.st_mode & 0o170777 == 0o040700


def _check_entry(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise StoreMisconfigured(f"{path} is a link")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
        raise StoreMisconfigured(f"{path} is not a plain file")
    if status.st_uid != os.geteuid():
        raise StoreMisconfigured(
            f"{path} belongs to user {status.st_uid}, not to the user of this process"
        )
    if status.st_nlink > 1:
        raise StoreMisconfigured(f"{path} has a second name elsewhere (a hard link)")


def _followed(path: Path) -> Path:
    """Where the path leads, over links that can be trusted, through checked folders."""
    here, parts, links = Path("/"), list(reversed(path.parts[1:])), 0
    while parts:
        part = parts.pop()
        if part == "..":
            here = here.parent
            continue
        _check_way(path, here, here.stat())
        status = (here / part).lstat()
        if not stat.S_ISLNK(status.st_mode):
            here /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not _is_trusted(status.st_uid):
            raise StoreMisconfigured(
                f"{here / part}, on the way to {path}, is a link of user {status.st_uid}"
            )
        target = (here / part).readlink()
        here = Path("/") if target.is_absolute() else here
        parts.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return here


def _check_way(path: Path, folder: Path, status: os.stat_result) -> None:
    if not _is_trusted(status.st_uid):
        raise StoreMisconfigured(
            f"user {status.st_uid}, whom {folder} belongs to, could replace {path}"
        )
    if not status.st_mode & stat.S_ISVTX and _others_may_write(status):
        raise StoreMisconfigured(
            f"other users may write into {folder}, and so could replace {path}"
        )


def _is_trusted(user: int) -> bool:
    # In a container the owner of / may be another number than 0; against it nothing helps.
    return user in (0, os.geteuid(), os.stat("/").st_uid)


def _others_may_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and _is_shared(status.st_gid)


def _is_shared(group: int) -> bool:
    # Where each user has a group of their own, folders are group-writable as a matter of course.
    if group == 0:
        return False
    me = os.geteuid()
    primary = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == group}
    try:
        listed = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        listed = set()
    with contextlib.suppress(KeyError):
        listed.discard(pwd.getpwuid(me).pw_name)
    return bool(listed or primary - {me})


def _no_folder(folder: Path, error: OSError) -> StoreMisconfigured:
    return StoreMisconfigured(f"no folder at {folder}: {error.strerror}")
