"""The join of feedback to its experience.

`state` is what is remembered, `decide` what is decided, `expiry` what is due to be forgotten.
"""
