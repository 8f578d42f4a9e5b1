"""`python -m flowgraph.cli`."""

from flowgraph.cli import main

if __name__ == "__main__":  # processes of a local cluster import this file too
    main()
