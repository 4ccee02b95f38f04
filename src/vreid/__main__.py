"""`python -m vreid` is the `vreid` command, also in a tree that is not installed."""

from vreid.cli import main

if __name__ == "__main__":
    main()
