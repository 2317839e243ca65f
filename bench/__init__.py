"""The benchmark: what a delta costs and how late it comes, beside a direct call to the provider simulator.

`python -m bench`, from the root of the repository; `make bench`. Sections: relay (cost and lag of a delta), burst (time
to the first token), fanout (many readers of one chat), idle (memory a connection), saturation (how many streams, and
the lag at 75 % of that), start. Every timing stands beside the same reader's on the simulator's own socket, in the same
run: on another machine, compare the ratios.

`load` is the load generator, a process of its own; `scenario` says what is run, `measure` runs it and samples CPU.
"""
