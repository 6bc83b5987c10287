"""The generator of the blocking code from the asyncio code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import blocking

SOURCE = '''\
"""Connects: an AsyncClient awaits it, in async code."""

import redis.asyncio
from rwf.aio.base import AsyncBase


class AsyncFound(AsyncBase):
    async def all(self, timeout: float = 1) -> AsyncIterator[int]:  # noqa: ASYNC109 - as others
        """Awaits async work."""
        async with aclosing(self._numbers()) as numbers:  # as the async side has it
            async for number in numbers:
                yield (await self._twice(number)) + len("await ")
'''

MADE = '''\
"""Connects: an Client awaits it, in async code."""

import redis
from rwf.client.base import Base


class Found(Base):
    def all(self, timeout: float = 1) -> Iterator[int]:
        """Awaits async work."""
        with closing(self._numbers()) as numbers:  # as the async side has it
            for number in numbers:
                yield (self._twice(number)) + len("await ")
'''


def test_code_loses_its_async_words_and_prose_keeps_them() -> None:
    assert blocking.blocking(SOURCE) == MADE


def test_a_sentence_that_nobody_says_any_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blocking.check_sentences("".join(source.read_text() for source in blocking.twins()))
    monkeypatch.setitem(blocking.SENTENCES, "nobody says this", "")
    with pytest.raises(SystemExit, match="nobody says this"):
        blocking.check_sentences("anything else")


def test_a_twin_that_was_edited_is_found_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, made = tmp_path / "source.py", tmp_path / "made.py"
    source.write_text("async def one() -> int:\n    return await two()\n")
    monkeypatch.setattr(blocking, "ROOT", tmp_path)
    monkeypatch.setattr(blocking, "twins", lambda: {source: made})
    monkeypatch.setattr(blocking, "SENTENCES", {})
    monkeypatch.setattr("sys.argv", ["blocking.py"])
    assert blocking.main() == 0
    assert made.read_text().splitlines() == [
        "# Made of source.py by tools/blocking.py: do not edit.",
        "def one() -> int:",
        "    return two()",
    ]
    made.write_text(made.read_text() + "# edited\n")
    monkeypatch.setattr("sys.argv", ["blocking.py", "--check"])
    assert blocking.main() == 1
    assert "made.py: is not up to date" in capsys.readouterr().out
    assert made.read_text().endswith("# edited\n")
