"""What scripts/bench.py runs: jobs, the same job written for each contender, and the rounds in which they are timed.

    jobs      what is measured: cases, who takes part, and the targets
    data      the data of each kind of work, the same for every contender
    with_*    the work as a user of one library would write it; a contender is one such file
    child     one contender in a process of its own, told what to do line by line
    with_cluster, torch_processes, simulation    parts of these: Dask clusters, torch's processes, a model of a cluster
    rounds    starts the children of a case, gives each its turn, and compares what they found
    machine   the processor, the environment and the versions
    report    the tables

Only `data`, `child` and `with_*` import numpy or a contender's library, and they run in children alone.
"""
