"""`python -m nvp.cli`: the same as `nvp`."""

from nvp.cli import main

if __name__ == "__main__":
    main()
