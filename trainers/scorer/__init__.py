"""Tier 1: the online scorer.

`entries` turns scorer entries into rows, `network`, `loss` and `adam` are the arithmetic, `model` joins them,
`samples` has the buffers and the draws, `progress` the counts and the plateau decay, `learner` the online learner
itself, `snapshot` and `checkpoint` its state at rest, `updates` what is published of a result, `steps` which records of
the log of steps count.
"""
