"""``python -m rwf``: the command line."""

from rwf.cli import main

if __name__ == "__main__":
    main()
