"""The lake beside what people would use instead: a table of cases, each a few contenders over the same data.

Every contender has a process of its own with a pipe on which it is asked to run: so its peak of memory is its own, its
caches stay warm between its turns, and peers live in an environment of their own. They take turns, so that all see the
machine in the same mood. `python -m benchmarks.beside`, or `make bench`.
"""
