"""`python -m experiments.cli` is `zia`."""

from experiments.cli.main import main

if __name__ == "__main__":
    main()
