"""Mutants of the Lua and of the Python core: which tests notice a single change.

``python -m tests.fault.mutation [FILE ...]`` runs the mutants of some files of ``lua/`` and of
``rwf/`` (of ``GUARDED`` and ``CORE`` by default) against some files of ``tests/`` (by default those
that are meant for them) on Valkey 9.1, prints which survive, and ends with 1 when one of them is
not listed in ``survivors.md``.
"""
