"""The kill campaign: real processes on a mixed load, any of which is killed or paused at any time.

``python -m tests.fault.campaign --seed N --workflows N --kills N`` runs one. What each workflow is
and how each of its steps must end is a pure function of the seed (``plan``), and so are the
strikes (``chaos``). Processes (``actors``, kept by ``fleet``) write down what they were told was
done (``journal``); the ``oracle`` compares that, and all stored records, with the plan.
"""
