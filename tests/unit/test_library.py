"""The library: assembled from ``lua/``, named after its text, in the wheel; and the types."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import mypy.api
import pytest
from redis.exceptions import ResponseError

from rwf import Client
from rwf.errors import RwfError
from rwf.protocol import library as module
from rwf.protocol.functions import FUNCTIONS
from rwf.protocol.generate import generated
from rwf.protocol.library import library, lua_folder
from rwf.protocol.requests import READING, WRITING
from tests.conftest import Pool, connect
from tests.support.flows import flow, own_key, raw
from tests.support.servers import KINDS, AnyServer

ROOT = Path(__file__).parents[2]


def test_generated_files_are_up_to_date() -> None:
    for name, text in generated().items():
        stored = (lua_folder() / "lib" / f"{name}.lua").read_text()
        assert stored == text, "run `python -m rwf.protocol.generate`"


def test_every_file_is_in_the_library_and_every_function_has_a_file() -> None:
    files = {path.stem for path in (lua_folder() / "functions").glob("*.lua")}
    assert files == set(FUNCTIONS)
    libs = {path.stem for path in (lua_folder() / "lib").glob("*.lua")}
    assert libs - {"prelude"} == set(module.LIBS)


def test_every_command_that_functions_run_is_declared() -> None:
    code = "\n".join(line.split("--")[0] for line in library().text.splitlines())
    run = set(re.findall(r'\bcommand\(\s*"([A-Z]+)"', code))
    declared = {*READING, *WRITING}
    assert run <= declared, "declare it in rwf.protocol.requests, and grant it in deploy/users.acl"
    assert {name for name in declared if f'"{name}"' not in code} == set()


def test_every_function_says_what_it_is() -> None:
    paths = list((lua_folder() / "functions").glob("*.lua"))
    assert {path.stem for path in paths} == set(FUNCTIONS)
    for path in paths:
        head = path.read_text().split("\nlocal ")[0].split("\nreturn ")[0]
        assert head.startswith(f"-- {path.stem}: "), path.name


def test_the_name_is_the_hash_of_the_text() -> None:
    name, text = library().name, library().text
    assert re.fullmatch(r"rwf_[0-9a-f]{12}", name)
    head, code = text.split("\n", 1)
    assert head == f"#!lua name={name}"
    assert (
        name == "rwf_" + hashlib.sha256(code.replace(name, "@LIBRARY@").encode()).hexdigest()[:12]
    )
    for function in FUNCTIONS:
        assert f"'{name}_{function}'" in text
        assert library().function(function) == f"{name}_{function}"


def test_another_text_has_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in lua_folder().rglob("*.lua"):
        target = tmp_path / path.relative_to(lua_folder())
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text())
    monkeypatch.setattr(module, "lua_folder", lambda: tmp_path)
    assert library.__wrapped__().name == library().name
    changed = tmp_path / "functions" / "show.lua"
    changed.write_text(changed.read_text() + "-- changed\n")
    assert library.__wrapped__().name != library().name


def test_functions_that_read_are_registered_so(one_client: Client) -> None:
    one_client.list()
    redis = raw(one_client)
    for function in FUNCTIONS.values():
        said = ""
        try:
            redis.execute_command("FCALL_RO", library().function(function.name), 0)
        except ResponseError as error:  # without its keys it fails in one way or another
            said = str(error)
        refused = "Can not execute a script with write flag" in said
        assert refused is not function.reads_only, said


def test_lines_map_back_to_their_files() -> None:
    text = library().text.splitlines()
    assert len(text) == len(library().lines)
    places = 0
    for number, line in enumerate(text, 1):
        file, own = library().lines[number - 1]
        if file and own:
            assert (lua_folder() / file).read_text().splitlines()[own - 1] == line
            told = library().locate(f"bad thing script: x, on @user_function:{number}.")
            assert told == f"bad thing script: x, on lua/{file}:{own}."
            places += 1
    assert places > 500
    for unknown in ("user_function:0", "user_function:999999", "nothing at all", ""):
        assert library().locate(unknown) == unknown


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_on_the_server_names_the_file_and_the_line(pool: Pool, kind: str) -> None:
    server = pool.get(kind)
    with connect(server) as client:
        view = client.insert(flow("a"))
        raw(client).hset(own_key(view.id), "a", "a,0,,0,0,,0,,,,,,||0|||||")
        with pytest.raises(RwfError) as caught:
            client.complete_step(view.id, "a", "retryable")
    place = re.search(r"lua/([a-z/]+\.lua):(\d+)", str(caught.value))
    assert place, str(caught.value)
    lines = (lua_folder() / place[1]).read_text().splitlines()
    assert 0 < int(place[2]) <= len(lines)


def test_two_releases_side_by_side(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client of another release loads a library of its own, and both go on."""
    for path in lua_folder().rglob("*.lua"):
        target = tmp_path / path.relative_to(lua_folder())
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text() + "-- of another release\n")
    with connect(one_server) as old:
        view = old.insert(flow("a b:a c:b"))
        with monkeypatch.context() as patch:
            patch.setattr(module, "lua_folder", lambda: tmp_path)
            other = library.__wrapped__()
            patch.setattr("rwf.transport.session.library", lambda: other)
            new = connect(one_server)
        with new:
            assert new._session.library.name != old._session.library.name
            assert new.complete_step(view.id, "a").released == ("b",)
            assert old.complete_step(view.id, "b").released == ("c",)
            assert new.complete_step(view.id, "c").workflow.state == "completed"
        redis: Any = one_server.client()
        loaded = str(redis.execute_command("FUNCTION", "LIST"))
        assert other.name in loaded
        assert library().name in loaded
        redis.execute_command("FUNCTION", "DELETE", other.name)


# --- the types, and the wheel

USER = """
from datetime import timedelta

from rwf import (
    AsyncClient, Backoff, Client, CommandRejected, Completion, NotFound, Workflow, result)


def build() -> Workflow:
    wf = Workflow("w", context={"a": 1})
    wf.add("a", worker="w", backoff=Backoff(base=2), timeout=timedelta(seconds=1))
    return wf.add("b", worker="w", input=[result("a", "x")]).connect("a", "b", policy="continue")


def run(client: Client) -> str | None:
    view = client.insert(build(), key="k", retention=None)
    try:
        done = client.complete_step(view.id, "a", "failed", payload={"n": 1}, retry_in=None)
    except CommandRejected as error:
        return error.reason_code.value
    except NotFound as error:
        return str(error)
    names: tuple[str, ...] = done.released
    row = client.result(view.id, names[0])
    for answer in client.complete_many([Completion(workflow_id=view.id, step="b")]):
        if isinstance(answer, CommandRejected):
            return answer.message
        count: int = answer.workflow.completed_step_count
        print(count)
    return None if row is None else row.summary


async def wait(client: AsyncClient) -> str:
    async with client:
        view = await client.insert(build())
        async for event in client.events():
            return event.workflow_id
        return view.id


with Client.from_url("redis://localhost", durability="aof", partitions=4) as client:
    run(client)
"""


def _check(tmp_path: Path, code: str) -> tuple[str, int]:
    path = tmp_path / "user.py"
    path.write_text(code)
    arguments = ["--strict", "--no-incremental", f"--cache-dir={os.devnull}"]
    out, _, status = mypy.api.run([*arguments, "--config-file=", str(path)])
    return out, status


def test_a_users_code_is_checked_strictly(tmp_path: Path) -> None:
    out, status = _check(tmp_path, USER)
    assert status == 0, out


def test_a_users_mistakes_are_found(tmp_path: Path) -> None:
    wrong = textwrap.dedent(
        """
        from rwf import (Client, Workflow)

        def run(client: Client) -> int:
            Workflow("w").add("a", worker="w", deps=5)
            client.insert("w")
            client.complete_step("id", "a", lease=5)
            return client.get("id").name
        """
    )
    out, status = _check(tmp_path, wrong)
    assert status == 1
    assert [int(line) for line in re.findall(r"user\.py:(\d+): error", out)] == [5, 6, 7, 8], out


OUTSIDE = """
import rwf
from pathlib import Path
from rwf.protocol.library import library, lua_folder

assert Path(rwf.__file__).is_relative_to(Path({folder!r}).resolve()), rwf.__file__
assert lua_folder().is_relative_to(Path({folder!r}).resolve()), lua_folder()
assert (Path(rwf.__file__).parent / "py.typed").exists()
client = rwf.Client.from_url({url!r})
view = client.insert(rwf.Workflow("w").add("a", worker="w"))
assert client.complete_step(view.id, "a").workflow.state == "completed"
print(library().name)
"""


@pytest.mark.long
def test_the_wheel_works_outside_the_checkout(tmp_path: Path, one_server: AnyServer) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT)
    [wheel] = tmp_path.glob("rwf-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "lua").rglob("*.lua"):
        assert f"rwf/_lua/{path.relative_to(ROOT / 'lua').as_posix()}" in names
    assert "rwf/py.typed" in names
    assert not any(name.startswith(("tests/", "lua/")) for name in names)

    folder = tmp_path / "venv"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    # Its dependencies come from the environment of the tests, behind the installed wheel.
    site = next(folder.glob("lib/python*/site-packages"))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here))
    code = OUTSIDE.format(folder=str(folder), url=one_server.url)
    assert run(python, "-P", "-c", code).strip() == library().name
    assert "usage" in run(folder / "bin" / "rwf", "--help").lower()


def test_no_function_reads_an_argument_by_its_place() -> None:
    for path in lua_folder().rglob("*.lua"):
        if path.stem != "arguments":
            assert not re.search(r"\barg[sv]\[", path.read_text()), path.name
