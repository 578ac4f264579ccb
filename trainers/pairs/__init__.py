"""Tier 2: which answers make a preference pair.

`rules` holds every rule as a pure predicate with the name that it is counted under, `index` and `candidates` find an
answer's best partner, `entry` is what is remembered of an answer, `matcher` decides, `funnel` says where every answer
went, `cost` what each rule costs.
"""
