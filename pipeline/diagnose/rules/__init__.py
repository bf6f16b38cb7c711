"""The rules of `pcan diagnose`: each a function from a case to its findings.

docs/diagnose.md says how each decides and why its thresholds are what they are.
"""
