"""Topics: what is called, and what they hold. Keys: the partition's, then the topic's."""

from __future__ import annotations

from rwf.protocol.declare import ServerFunction, server_function


@server_function("topic_name", reads_only=True)
class TopicName(ServerFunction[bytes | None]):
    """What a topic is called, ``signal|correlation key``, the key percent-quoted; None where there
    is no topic."""


@server_function("signal_of_dedupe_key", reads_only=True)
class SignalOfDedupeKey(ServerFunction[int | None]):
    """The number of the signal on record that one of this dedupe key would repeat."""

    dedupe_key: str
