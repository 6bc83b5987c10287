"""How the console prints what is stored."""

from __future__ import annotations

from rwf.console.words import with_commands


def test_commands_of_a_sentence_can_be_pasted() -> None:
    assert with_commands("run `rwf migrate`, then look") == (
        'run <code class="command">rwf migrate</code>, then look'
    )


def test_other_texts_are_escaped() -> None:
    assert with_commands("a <b> `<i>`") == ('a &lt;b&gt; <code class="command">&lt;i&gt;</code>')
    assert with_commands(None) == ""
