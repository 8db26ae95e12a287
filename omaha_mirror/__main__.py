"""`python -m omaha_mirror`: the same as the `omaha-mirror` command."""

from omaha_mirror.cli.main import main

if __name__ == "__main__":
    main()
