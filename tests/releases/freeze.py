"""Freezes a release's stored data and its code: ``python -m tests.releases.freeze VERSION``.

Run it on the release's commit. It writes ``tests/releases/VERSION/``: ``data.jsonl``, a line per
key (``data.py``), and ``package.zip``, the package with its Lua, which later releases run beside
their own on the same data.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from rwf import Client
from rwf.protocol.library import lua_folder
from tests.releases.data import dump, populate
from tests.support.servers import Server

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def main(version: str) -> None:
    folder = FOLDER / version
    folder.mkdir()
    server = Server.start("redis70")
    with Client.from_url(server.url, partitions=4) as client:
        populate(client)
        (folder / "data.jsonl").write_text("".join(f"{line}\n" for line in dump(client)))
    server.stop()
    with zipfile.ZipFile(folder / "package.zip", "w", zipfile.ZIP_DEFLATED) as package:
        for path in sorted((ROOT / "rwf").rglob("*")):
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and path.suffix in (".py", ".json")
            ):
                package.write(path, path.relative_to(ROOT))
        for path in sorted(lua_folder().rglob("*.lua")):
            package.write(path, Path("rwf/_lua") / path.relative_to(lua_folder()))


if __name__ == "__main__":
    main(sys.argv[1])
