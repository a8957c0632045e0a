"""Fuzzers: seeded inputs that nobody would type or hand in on purpose; none ends in a traceback.

FUZZ_CASES sets the number of cases of each, such as FUZZ_CASES=10000; by default they are a few
hundred, and the same in every run.
"""
