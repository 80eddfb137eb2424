import os

# Read when torch loads its OpenMP library (GNU's, on Linux). Threads that wait for each other sleep after a fraction
# of a millisecond. By default they spin for several: beside another busy process, every operation would take that long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
