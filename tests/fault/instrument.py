"""A copy of the library that a test can break: any command of a call fails, or the clock stands
still.

It has a name of its own, beside the real one. ``arm`` decides which command of the next call fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

from rwf import Client
from rwf.protocol.library import Library, library

_COMMAND: Final = "redis.call\n"
_BEFORE: Final = "local function resolving(callback)\n"
_INSTRUMENT: Final = """
local ran, failing, now = 0, 0, nil
local function instrumented(name, ...)
  ran = ran + 1
  if ran == failing then
    error("this command fails on purpose")
  end
  return name == "TIME" and now or redis.call(name, ...)
end
"""
_ARM: Final = """
redis.register_function('@NAME@_arm', function(_, args)
  ran, failing, now = 0, tonumber(args[1]), args[2] and {args[2], args[3]}
end)
"""


@cache
def instrumented() -> Library:
    """The copy, with the function ``arm`` added."""
    real = library()
    name = f"{real.name}_armed"
    text = real.text
    for old, new in ((_BEFORE, _INSTRUMENT + _BEFORE), (_COMMAND, "instrumented\n")):
        assert text.count(old) == 1, f"the library has changed: {old}"
        text = text.replace(old, new)
    text = (text + _ARM.replace("@NAME@", real.name)).replace(real.name, name)
    return Library(name, text, ())


def arm(client: Client, *, failing: int = 0, frozen: bool = False) -> None:
    """From the next call on, the command of this number fails, and time stands still.

    Commands are counted from here; 0 has none fail.
    """
    redis = client._store.client()
    clock = redis.time() if frozen else ()
    redis.fcall(client._session.library.function("arm"), 0, failing, *clock)


@dataclass(frozen=True)
class Snapshot:
    """A copy of all keys of a server, to be restored."""

    redis: Any
    keys: dict[bytes, tuple[bytes, int]]

    @classmethod
    def of(cls, redis: Any) -> Self:
        names = list(redis.scan_iter(count=1000))
        with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.dump(name).pttl(name)
            found = pipeline.execute()
        return cls(redis, dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True)))

    def restore(self) -> None:
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            for name, (value, left_ms) in self.keys.items():
                pipeline.restore(name, max(left_ms, 0), value)
            pipeline.execute()


def digests(redis: Any) -> dict[bytes, bytes]:
    """The digest of each key's value."""
    names = sorted(redis.scan_iter(count=1000))
    values = redis.execute_command("DEBUG", "DIGEST-VALUE", *names) if names else []
    return dict(zip(names, values, strict=True))
