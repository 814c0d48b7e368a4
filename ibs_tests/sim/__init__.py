"""Seeded simulation of the server's engine on a disk that fails: one seed, one exactly repeatable run.

`python -m ibs_tests.sim --seed N --trace` replays a run. contrib/docs/simulator.md says what is
modelled and what is not.
"""
