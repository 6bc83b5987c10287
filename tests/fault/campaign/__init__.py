"""The kill campaign: real processes on a mixed load, any of which is killed or paused at any time.

``python -m tests.fault.campaign --seed N --workflows N --kills N`` runs one. Each workflow and
the required end of each of its steps are a pure function of the seed (``plan``), and so are the
strikes (``chaos``). Processes (``actors``, kept by ``fleet``) write down the answers that they got
(``journal``); the ``oracle`` compares these, and all stored records, with the plan.
"""
