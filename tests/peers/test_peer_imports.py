"""Peers, through the door: `shareasm import` of each file, twice, and what the measures say of it.

The place for the store-level oracles of shared/data/README.md (written with the import command): `new 0` the second
time, flat after noflat `new 0`, three edit files one mention, kpop's shares, the ties of tweets.jsonl. The readers
themselves are held in `test_twarc2.py` and `test_jetstream.py`.
"""
