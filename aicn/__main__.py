"""`python -m aicn`."""

from aicn.cli.main import main

if __name__ == "__main__":
    main()
