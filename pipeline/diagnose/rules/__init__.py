"""The rules of `pcan diagnose`: each a function from a case to its findings.

docs/diagnose.md describes how each decides, and the reasons for its thresholds.
"""
