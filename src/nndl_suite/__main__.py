"""`python -m nndl_suite`: the same as the command `nndl-suite`."""

from nndl_suite.cli import main

if __name__ == "__main__":
    main()
