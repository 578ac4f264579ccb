"""Tier 2: which answers make a preference pair.

`rules` holds every rule as a pure predicate with the name that it is counted under, `index` finds an answer's best
partner, `entry` is what is remembered of an answer, `book` decides, `funnel` says where every answer went.
"""
